"""The flow on a real Prefect server, with its stages as runs of jobs in a workspace that answers as Databricks does.

MLflow and the endpoint are this machine's; photos land on a volume. The tests tell one story, in their order.
"""

import base64
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, State
from prefect_databricks import DatabricksCredentials

from car_damage import demo_photos
from car_damage.errors import SettingsError
from car_damage.job.jobs import Jobs
from car_damage.status import look
from flows.retrain import retrain
from tasks.cancellation import end_work
from tasks.workspace import VARIABLES, start, use_credentials
from tests.databricks.twin import CLIENT, SECRET, Twin, workspace
from tests.prefect.conftest import LocalTarget

LANDING = "/Volumes/insurance_uc/landing/raw_data/photos/"
HANDOVERS = "/Volumes/insurance_uc/ops/runs/"


@pytest.fixture(scope="module")
def twin(target: LocalTarget, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    with workspace(tmp_path_factory.mktemp("workspace") / "twin") as twin:
        os.environ.update(twin.environment)
        for volume in (LANDING, HANDOVERS):
            twin.volume(volume).mkdir(parents=True)
        for name in ("ingest", "train", "score"):
            twin.make_job(f"car-damage-{name}")
        demo_photos.write(twin.volume(LANDING))
        target.set(
            LANDING__FOLDER=LANDING,
            DATABRICKS__STAGES="jobs",
            DATABRICKS__HANDOVERS=HANDOVERS,
            DATABRICKS__POLL="0.3",
            TRAINING__EPOCHS="1",
            PROMOTION__MIN_TEST_PHOTOS="5",
            PROMOTION__RECALL_FLOOR="{}",
        )
        yield twin


def run(**parameters: bool) -> State[Any]:
    state: State[Any] = retrain(return_state=True, **parameters)
    assert state.is_completed(), state.message
    return state


def stages(twin: Twin) -> list[tuple[str, str]]:
    return [(run.job, run.parameters["stages"]) for run in sorted(twin.runs(), key=lambda run: run.run_id)]


def test_what_lands_on_a_volume_ends_as_a_version_that_is_live_and_pays_two_starts(target: LocalTarget, twin: Twin) -> None:
    state = run()
    assert (state.name, state.message) == ("Promoted", "Version 1 is live: there was none before.")
    assert stages(twin) == [("car-damage-ingest", "validate,silver"), ("car-damage-train", "train,register")]
    status = look(target.platform)
    assert status.endpoint is not None
    assert (status.endpoint.ready, status.endpoint.served) == (True, 1)
    [answer] = target.platform.serving.ask([demo_photos.photo("major", seed=900)])
    assert answer.served_by.endswith("-1")


def test_a_person_sees_where_each_stage_runs(twin: Twin) -> None:
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/latest/filter", json={"limit": 200}).json()
    shown = {one["key"]: one["data"] for one in found}
    runs = {run.parameters["stages"]: run for run in twin.runs()}
    assert f"run {runs['validate,silver'].run_id}]({twin.host}" in shown["databricks-validate"]
    assert f"run {runs['train,register'].run_id}]({twin.host}" in shown["databricks-train"]


def test_a_quiet_night_pays_one_start_and_a_block_s_credentials_do(
    target: LocalTarget, twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABRICKS_TOKEN", "somebody else's")
    twin.pats.clear()
    block = DatabricksCredentials(
        databricks_instance=twin.host.removeprefix("https://"),
        client_id=CLIENT,
        client_secret=SECRET,
    )
    block.save("car-damage-twin")
    target.set(DATABRICKS__CREDENTIALS="car-damage-twin")
    assert run().name == "Nothing new"
    assert stages(twin)[2:] == [("car-damage-ingest", "validate,silver")]
    assert twin.access, "a token was made of the block's id and secret"
    assert "DATABRICKS_TOKEN" not in os.environ, "what was there before would be a second way in"


def test_the_hook_of_a_cancelled_run_ends_its_job_s_run_and_no_other(target: LocalTarget, twin: Twin) -> None:
    twin.cold = 3600
    use_credentials("car-damage-twin")
    train = next(job for job in twin.jobs.values() if job.name == "car-damage-train")
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    for flow_run in (mine, other):
        start(train.job_id, {"flow_run": flow_run, "request": "/x", "stages": "train"}, flow_run)
    end_work(retrain, FlowRun(id=uuid.UUID(mine), flow_id=uuid.uuid4()), Cancelled())
    jobs = Jobs()
    assert jobs.live(train.job_id, mine) == []
    assert len(jobs.live(train.job_id, other)) == 1
    twin.cold = 0.0


def test_a_block_that_is_not_there_is_told_with_where_to_make_it(target: LocalTarget, twin: Twin) -> None:
    target.set(DATABRICKS__CREDENTIALS="nobodys")
    try:
        state: State[Any] = retrain(return_state=True)
    finally:
        del os.environ["CAR_DAMAGE_DATABRICKS__CREDENTIALS"]
    assert state.is_failed()
    assert state.message is not None
    assert "names the block databricks-credentials/nobodys, which is not on the Prefect server: make it in the UI" in state.message


def test_a_block_with_two_ways_in_is_told_without_what_is_in_it(target: LocalTarget, twin: Twin) -> None:
    """The UI saves what a person has filled in, whatever it is."""
    both = {"databricks_instance": "127.0.0.1", "client_id": CLIENT, "client_secret": "x", "token": SECRET}
    with get_client(sync_client=True) as client:
        kind = client.read_block_type_by_slug("databricks-credentials")
        schema = client.read_block_schema_by_checksum(DatabricksCredentials._calculate_schema_checksum())
        made = {"name": "both", "data": both, "block_type_id": str(kind.id), "block_schema_id": str(schema.id)}
        client.request("POST", "/block_documents/", json=made)
    with pytest.raises(SettingsError, match="must have either a token, or a client id and its secret: correct it in the UI") as raised:
        use_credentials("both")
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def pages(client: Any, kind: str) -> Iterator[str]:
    """Everything of a kind that the server keeps."""
    for offset in range(0, 100_000, 200):
        answer = client.request("POST", f"/{kind}/filter", json={"limit": 200, "offset": offset})
        yield answer.text
        if len(answer.json()) < 200:
            return


def test_no_secret_is_in_a_file_a_log_a_parameter_or_an_artifact(target: LocalTarget, twin: Twin, tmp_path: Path) -> None:
    secrets = [SECRET, base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode(), *twin.access]
    with get_client(sync_client=True) as client:
        kinds = ("logs", "artifacts", "flow_runs", "task_runs", "deployments")
        said = [text for kind in kinds for text in pages(client, kind)]
    assert any("nobodys, which is not on the Prefect server" in text for text in said), "the last run's log was read"
    files = [path for root in (target.home, twin.storage, twin.folder) for path in root.rglob("*") if path.is_file()]
    assert len(files) > 50
    # Who has the database of blocks has the secrets in it, encrypted; the server's own folder is elsewhere.
    said += [path.read_bytes().decode("latin-1") for path in files]
    assert [secret for secret in secrets for text in said if secret in text] == []
