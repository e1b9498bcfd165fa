"""What the flow forget does on the Prefect server: removes what the server itself knows of the photo, and starts a training without it."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.logging import get_run_logger

from car_damage.data.forgotten import mark_of
from car_damage.errors import SettingsError, Unavailable
from car_damage.machine import absolute
from car_damage.pipeline import ForgetReport, Trace
from car_damage.settings import Settings
from car_damage.traces.sought import SoughtPhoto
from tasks.commands import BOOTSTRAP
from tasks.data_quality import CELL
from tasks.flow_runs import FORGET
from tasks.markdown import plain, without_pictures
from tasks.old_pictures import RUNS, WITH_PICTURES, artifacts, pages

HIDDEN = "mark:"
"""What the parameter of a run begins with, in place of the photo's hash."""
RETRAIN = "retrain/retrain"
_WITH_PATHS = ("landed", "predictions")
"""Keys of the artifacts without pictures that name files."""
_PAGES = 1000
"""The most pages of earlier runs that are looked at."""


def mark(photo: str) -> str:
    """The mark of a photo, from its SHA-256 or the parameter of a run that has hidden it."""
    return photo.removeprefix(HIDDEN) if photo.startswith(HIDDEN) else mark_of(photo)


def or_told(what: str, work: Callable[[], None]) -> tuple[Trace, ...]:
    """Do something on the server. Returns what the certificate says if that fails."""
    try:
        work()
    except Unavailable as error:
        get_run_logger().warning("%s could not be removed: %s", what, error)
        return (Trace("Prefect", what, stays="the server did not remove it: forget the photo again", again=True),)
    return ()


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """Prefect's server. Raises Unavailable for what it does not answer."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectException) as error:
        cause = str(error) or type(error).__name__
        raise Unavailable(f"Prefect's server does not answer, so forget the photo again: {cause}") from error


def hide() -> None:
    """Put the mark in the place of the photo's hash, in the parameters of this run and of earlier ones. Raises Unavailable."""
    with _server() as client:
        read = partial(client.read_flow_runs, flow_filter=FORGET, sort=FlowRunSort.START_TIME_DESC)
        for run in chain.from_iterable(islice(pages(read, RUNS), _PAGES)):
            photo = str(run.parameters.get("photo", HIDDEN))
            if not photo.startswith(HIDDEN):
                client.update_flow_run(run.id, parameters=run.parameters | {"photo": HIDDEN + mark_of(photo)})


def clean_artifacts(report: ForgetReport, settings: Settings) -> None:
    """Remove the pictures from artifacts that may show the photo, and its paths and its hash from their text.

    Pictures of files that are not used go from every such artifact: its text may name the file in a way that nobody knows any more.

    Raises:
        Unavailable: the server did not remove them all.
    """
    sought, paths = SoughtPhoto(lambda sha256: mark_of(sha256) == report.mark), _written(report.paths, absolute(settings.landing.folder))
    with _server() as client:
        for artifact in artifacts(client, keys=(*WITH_PICTURES, *_WITH_PATHS)):
            text = str(artifact.data)
            shows = artifact.key == "data-quality" or any(run in text for run in report.runs)
            clean = sought.blotted((without_pictures(text) if shows else text).encode()).decode()
            clean = paths.sub("forgotten", clean) if paths else clean
            if clean != text:
                client.update_artifact(artifact.id, ArtifactUpdate(data=clean))


def _written(paths: Sequence[str], landing: str) -> re.Pattern[str] | None:
    """Finds these paths in the text of an artifact: whole or from the landing folder on, shortened, escaped, and in JSON."""
    names = {*paths, *(path.removeprefix(f"{landing}/") for path in paths)}
    texts = names | {plain(name, length) for name in names for length in (CELL, 80, 10_000)}
    texts |= {json.dumps(text)[1:-1] for text in texts}
    longest = sorted(texts, key=len, reverse=True)
    return re.compile(rf"(?<![\w./\\-])(?:{'|'.join(map(re.escape, longest))})(?!\w)") if longest else None


def start_retrain(report: ForgetReport) -> None:
    """Create a run of retrain, once for each photo and latest version that was trained with it.

    Raises:
        SettingsError: the flow is not deployed.
        Unavailable: the server does not answer.
    """
    with _server() as client:
        try:
            deployment = client.read_deployment_by_name(RETRAIN)
        except ObjectNotFound as error:
            raise SettingsError(f"forgetting.retrain is set, but the flow retrain is not deployed: run `{BOOTSTRAP}`") from error
        client.create_flow_run_from_deployment(deployment.id, idempotency_key=f"forgotten-{report.mark}-{max(report.versions)}")
