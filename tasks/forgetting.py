"""What the flow forget does on the Prefect server: removes what the server itself knows of the photo, and starts a training without it."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from car_damage.data.forgotten import mark_of
from car_damage.errors import SettingsError
from car_damage.machine import absolute
from car_damage.pipeline import ForgetReport
from car_damage.settings import Settings
from tasks.commands import BOOTSTRAP
from tasks.data_quality import CELL
from tasks.flow_runs import FORGET
from tasks.markdown import plain, without_pictures
from tasks.old_pictures import artifacts

HIDDEN = "mark:"
"""What the parameter of a run begins with, in place of the photo's hash."""
RETRAIN = "retrain/retrain"
_RUNS = 200


def mark(photo: str) -> str:
    """The mark of a photo, from its SHA-256 or the parameter of a run that has hidden it."""
    return photo.removeprefix(HIDDEN) if photo.startswith(HIDDEN) else mark_of(photo)


def hide() -> None:
    """Put the mark in the place of the photo's hash, in the parameters of this run and of earlier ones."""
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_filter=FORGET, sort=FlowRunSort.START_TIME_DESC, limit=_RUNS):
            photo = str(run.parameters.get("photo", HIDDEN))
            if not photo.startswith(HIDDEN):
                client.update_flow_run(run.id, parameters=run.parameters | {"photo": HIDDEN + mark_of(photo)})


def remove_pictures(report: ForgetReport, settings: Settings) -> None:
    """Remove the pictures from artifacts that may show the photo: of a training with files that did, and of files that are not used."""
    folder = absolute(settings.landing.folder).rstrip("/") + "/"
    named = {plain(path.removeprefix(folder), CELL) for path in report.files}
    with get_client(sync_client=True) as client:
        for artifact in artifacts(client):
            text = str(artifact.data)
            if any(name in text for name in (*named, *report.runs)) and (short := without_pictures(text)) != text:
                client.update_artifact(artifact.id, ArtifactUpdate(data=short))


def start_retrain(report: ForgetReport) -> None:
    """Create a run of retrain, once for each photo.

    Raises:
        SettingsError: the flow is not deployed.
    """
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(RETRAIN)
        except ObjectNotFound as error:
            raise SettingsError(f"forgetting.retrain is set, but the flow retrain is not deployed: run `{BOOTSTRAP}`") from error
        client.create_flow_run_from_deployment(deployment.id, idempotency_key=f"forgotten-{report.mark}")
