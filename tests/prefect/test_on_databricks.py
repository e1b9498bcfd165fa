"""The whole service on a workspace that answers as Databricks does, with a volume, jobs on Spark, MLflow and an endpoint.

Prefect's server and worker are real. The tests tell one story in order, starting with an empty workspace.
"""

import base64
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, State
from prefect_databricks import DatabricksCredentials

from car_damage.errors import SettingsError
from car_damage.job.jobs import Jobs
from car_damage.settings_sources import load
from deployments import demo_photos
from deployments.bootstrap import everything
from deployments.items import bootstrap
from flows.retrain import retrain
from flows.watch_landing import watch_landing
from tasks.cancellation import end_work
from tasks.workspace import VARIABLES, start, use_credentials
from tests.databricks.twin import ADMIN_TOKEN, CLIENT, SECRET, Twin, workspace
from tests.databricks.twin.core import call
from tests.prefect.conftest import LocalTarget
from tests.prefect.service import Service, deployed, until

LANDING = "/Volumes/insurance_uc/landing/raw_data/data/training_imgs/"
MODEL = "insurance_uc.models.car_damage_classifier"
ENDPOINT = "car_damage_model_ep"
FAULTS: list[int | str] = [429, 500, 502, 503, 504, "reset before", "reset after", "slow"]
TURNS = range(len(FAULTS)) if os.environ.get("ALL_FAULTS") else (0,)
"""Each turn is one run, of two minutes, in which every call fails once. Each kind of fault hits every eighth call; after eight turns
every call has met every kind."""
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[LocalTarget]:
    """Settings for a workspace target. The endpoint is not on this machine."""
    del server
    before = dict(os.environ)
    home = tmp_path_factory.mktemp("target")
    (home / "logs").mkdir()
    target = LocalTarget(home, Path(LANDING), {})
    target.set(
        HOME=str(home),
        LANDING__FOLDER=LANDING,
        TABLES__ENGINE="spark",
        TRACKING__URI="databricks",
        TRACKING__REGISTRY_URI="databricks-uc",
        TRACKING__EXPERIMENT="/Shared/car-damage",
        SERVING__HOST="databricks",
        SERVING__POLL="0.2",
        DATABRICKS__STAGES="jobs",
        DATABRICKS__POLL="1",
        DATABRICKS__SERVICE_PRINCIPAL=CLIENT,
        TRAINING__EPOCHS="1",
        PROMOTION__MIN_TEST_PHOTOS="5",
        PROMOTION__MIN_TEST_PHOTOS_PER_CLASS="1",
        PROMOTION__FIRST_VERSION="any",
        PROMOTION__RECALL_FLOOR="{}",
        PROMOTION__MIN_GAIN="0",
        PROMOTION__MIN_CONFIDENCE="0.5",
        PROMOTION__MAX_COST_RISE="100",
    )
    try:
        yield target
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def twin(target: LocalTarget, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    """A workspace that contains only a catalog."""
    with workspace(tmp_path_factory.mktemp("workspace") / "twin") as twin:
        os.environ.update(twin.environment)
        yield twin


@pytest.fixture(scope="module")
def service(target: LocalTarget, twin: Twin) -> Service:
    """The workspace and the Prefect server after an administrator has run bootstrap."""
    os.environ["DATABRICKS_TOKEN"] = ADMIN_TOKEN
    service = deployed(target.home, target.landing)
    os.environ["DATABRICKS_TOKEN"] = SECRET
    return service


def land(twin: Twin, folder: Path) -> None:
    """Upload everything below a folder, as the data team does."""
    from databricks.sdk import WorkspaceClient

    files = WorkspaceClient(host=twin.host, token=ADMIN_TOKEN, auth_type="pat").files
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        where = f"{LANDING}{path.relative_to(folder)}"
        files.create_directory(where.rpartition("/")[0])
        with path.open("rb") as file:
            files.upload(where, file)


def look() -> str:
    """Run one check of the doorbell in this process."""
    return watch_landing(return_state=True).name or ""


def stages(twin: Twin) -> list[tuple[str, str]]:
    return [(run.job, run.parameters["stages"]) for run in sorted(twin.runs(), key=lambda run: run.run_id)]


def served(target: LocalTarget) -> int | None:
    state = target.platform.serving.state()
    assert state.ready
    assert not state.updating
    return state.served


def test_the_service_principal_finds_everything_as_it_should_be(service: Service, twin: Twin) -> None:
    asked = len(twin.asked)
    assert [result for result in bootstrap(everything(load())) if result.problem] == []
    assert {call.split()[0] for call in twin.asked[asked:]} <= {"GET", "HEAD"}


def test_photos_that_land_on_the_volume_start_a_run_and_end_as_a_version_that_is_live(
    service: Service, target: LocalTarget, twin: Twin, tmp_path: Path, good: set[tuple[str, str]]
) -> None:
    demo_photos.write(tmp_path / "photos")
    land(twin, tmp_path / "photos")
    asked = len(twin.asked)
    with service.worker("one"):
        assert [look(), look()] == ["Quiet", "Announced"]
        run = until(lambda: service.runs("retrain"), "a run comes by itself")[0]
        assert service.completed(run.id) == ("Promoted", "Version 1 is live: no version was live before.")
    good |= {(method, call(path)) for method, path in (line.split(" ", 1) for line in twin.asked[asked:])}
    assert stages(twin) == [("car-damage-ingest", "validate,silver"), ("car-damage-train", "train,register")]
    champion = target.platform.registry.champion()
    assert champion is not None
    assert (champion.version, champion.ready, champion.tags["flow_run"]) == (1, True, str(run.id))
    assert twin.models == {MODEL: CLIENT}
    assert twin.levels["serving-endpoints", twin.endpoints[ENDPOINT]] == {CLIENT: "CAN_MANAGE"}
    assert twin.tags[ENDPOINT] == {"service": "car-damage"}
    assert served(target) == 1


def test_a_photo_is_answered_by_the_workspace_s_endpoint(service: Service, tmp_path: Path) -> None:
    (tmp_path / "car.jpg").write_bytes(demo_photos.photo("major", seed=900))
    command = [sys.executable, "-c", "from car_damage.cli import app; app()", "predict", str(tmp_path / "car.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "answered by car_damage_classifier-1 in" in done.stdout


def test_a_person_sees_where_each_stage_runs(service: Service, twin: Twin) -> None:
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/latest/filter", json={"limit": 200}).json()
    shown = {one["key"]: one["data"] for one in found}
    runs = {run.parameters["stages"]: run for run in twin.runs()}
    assert f"run {runs['validate,silver'].run_id}]({twin.host}" in shown["databricks-validate"]
    assert f"run {runs['train,register'].run_id}]({twin.host}" in shown["databricks-train"]


def test_a_quiet_night_pays_one_start_and_a_block_s_credentials_do(
    service: Service, target: LocalTarget, twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look() == "Quiet"
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABRICKS_TOKEN", "somebody else's")
    del twin.pats[SECRET]
    block = DatabricksCredentials(
        databricks_instance=twin.host.removeprefix("https://"),
        client_id=CLIENT,
        client_secret=SECRET,
    )
    block.save("car-damage-twin")
    target.set(DATABRICKS__CREDENTIALS="car-damage-twin")
    state: State[Any] = retrain(return_state=True)
    assert state.name == "Nothing new", state.message
    assert stages(twin)[2:] == [("car-damage-ingest", "validate,silver")]
    assert twin.access, "a token was made of the block's id and secret"
    assert "DATABRICKS_TOKEN" not in os.environ, "what was there before would be a second way in"


@pytest.fixture(scope="module")
def good() -> set[tuple[str, str]]:
    """Every call of the successful run: its method, and its path as `call` generalizes it."""
    return set()


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("turn", TURNS)
def test_a_run_in_which_every_call_fails_once_does_each_thing_once(
    target: LocalTarget, twin: Twin, tmp_path: Path, turn: int, good: set[tuple[str, str]]
) -> None:
    target.set(TABLES__ENGINE="delta-rs")  # continues the tables that Spark wrote, and starts faster
    use_credentials("car-damage-twin")
    seed = 1000 + len(twin.runs())
    for label in ("minor", "moderate", "major"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / f"{seed}.jpg").write_bytes(demo_photos.photo(label, seed=seed))
    land(twin, tmp_path / "photos")
    platform = target.platform
    silver = platform.tables.read(platform.settings.tables.silver, ["path"])
    trained, versions = len(platform.tracking.recent(100)), set(twin.registered[MODEL].versions)

    kinds = FAULTS[turn:] + FAULTS[:turn]
    faults = [twin.fault(method, path, kinds[number % len(kinds)], whole=True) for number, (method, path) in enumerate(sorted(good))]
    state: State[Any] = retrain(return_state=True)
    for fault in faults:
        fault.times = 0
    assert sum(fault.seen for fault in faults) > 0.8 * len(faults)
    if state.is_failed():
        assert state.message is not None
        assert "Unavailable" in state.message or "; try again" in state.message, state.message
        state = retrain(return_state=True)
    assert state.name in {"Promoted", "Kept the champion"}, state.message

    rows, version = platform.tables.read(platform.settings.tables.silver, ["path"])
    assert (rows.num_rows, version) == (silver[0].num_rows + 3, silver[1] + 1)
    assert len(platform.tracking.recent(100)) == trained + 1
    assert {run.status for run in platform.tracking.recent(100)} == {"FINISHED"}
    assert len(set(twin.registered[MODEL].versions) - versions) == 1
    assert {version.status for version in twin.registered[MODEL].versions.values()} == {"READY"}
    champion = platform.registry.champion()
    assert champion is not None
    assert served(target) == champion.version


def test_the_hook_of_a_cancelled_run_ends_its_job_s_run_and_no_other(service: Service, twin: Twin) -> None:
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
    assert (
        "names the block databricks-credentials/nobodys, which is not on the Prefect server: correct the name, or create it in the UI"
        in state.message
    )


def test_a_block_with_two_ways_in_is_told_without_what_is_in_it(target: LocalTarget, twin: Twin) -> None:
    """The UI saves whatever a person enters, without checking it."""
    both = {"databricks_instance": "127.0.0.1", "client_id": CLIENT, "client_secret": "x", "token": SECRET}
    with get_client(sync_client=True) as client:
        kind = client.read_block_type_by_slug("databricks-credentials")
        schema = client.read_block_schema_by_checksum(DatabricksCredentials._calculate_schema_checksum())
        made = {"name": "both", "data": both, "block_type_id": str(kind.id), "block_schema_id": str(schema.id)}
        client.request("POST", "/block_documents/", json=made)
    with pytest.raises(SettingsError, match="needs either a token, or a client id and its secret: correct it in the UI") as raised:
        use_credentials("both")
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def pages(client: Any, kind: str) -> Iterator[str]:
    """All records of one kind on the server, a page at a time, as JSON."""
    for offset in range(0, 100_000, 200):
        answer = client.request("POST", f"/{kind}/filter", json={"limit": 200, "offset": offset})
        yield answer.text
        if len(answer.json()) < 200:
            return


def test_no_secret_is_in_a_file_a_log_a_parameter_or_an_artifact(target: LocalTarget, twin: Twin, tmp_path: Path) -> None:
    secrets = [SECRET, ADMIN_TOKEN, *twin.pats, base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode(), *twin.access]
    with get_client(sync_client=True) as client:
        kinds = ("logs", "artifacts", "flow_runs", "task_runs", "deployments")
        said = [text for kind in kinds for text in pages(client, kind)]
    assert any("nobodys, which is not on the Prefect server" in text for text in said), "the last run's log was read"
    files = [path for root in (target.home, twin.storage, twin.folder) for path in root.rglob("*") if path.is_file()]
    assert len(files) > 50
    # The Prefect server's folder is not searched: its database holds the blocks, and so the encrypted secrets.
    said += [path.read_bytes().decode("latin-1") for path in files]
    assert [secret for secret in secrets for text in said if secret in text] == []
