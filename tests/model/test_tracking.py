import json
import logging
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import BAD_REQUEST, PERMISSION_DENIED
from mlflow.types import ColSpec, Schema
from mlflow.utils.validation import _validate_logged_model_name

from car_damage.adapters.mlflow.client import client, translated
from car_damage.adapters.mlflow.history import MlflowHistory
from car_damage.adapters.mlflow.tracking import MlflowTracking, model_name
from car_damage.errors import CarDamageError, RegistryError, Unavailable
from car_damage.moves import UNDERWAY, Intention
from car_damage.packages import that_train_here
from car_damage.ports import RunContents
from car_damage.settings import Settings, Tracking

KEY = "k" * 64
SILVER_COLUMNS = {
    "path": ColSpec("string", "path"),
    "label": ColSpec("string", "label"),
    "height": ColSpec("long", "height"),
    "width": ColSpec("long", "width"),
    "sha256": ColSpec("string", "sha256"),
    "phash": ColSpec("long", "phash"),
    "split": ColSpec("string", "split"),
    "label_from": ColSpec("string", "label_from", required=False),
}


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
def tracking(settings: Settings) -> MlflowTracking:
    return MlflowTracking(settings)


def test_a_run_is_found_by_its_key_only_when_it_is_finished(tracking: MlflowTracking, contents: RunContents, settings: Settings) -> None:
    run_id = tracking.start("run", {"training_key": KEY})
    uri = tracking.log(run_id, contents)
    assert client(settings).get_run(run_id).info.status == "RUNNING"
    assert tracking.run_for(KEY, {}) is None
    tracking.finish(run_id, uri)
    found = tracking.run_for(KEY, {})
    assert found is not None
    assert (found.run_id, found.model_uri, found.metrics["test_accuracy"]) == (run_id, uri, 0.75)
    assert tracking.run_for("another key", {}) is None


def test_a_run_holds_params_history_files_dataset_and_tags(tracking: MlflowTracking, contents: RunContents, settings: Settings) -> None:
    run_id = tracking.start("run", {"training_key": KEY, "flow_run": "f-1"})
    uri = tracking.log(run_id, replace(contents, params={**contents.params, "network": "cnn"}))
    tracking.finish(run_id, uri)
    mlflow = client(settings)
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["epochs"] == "3"
    assert [(point.step, point.value) for point in mlflow.get_metric_history(run_id, "loss")] == [(1, 1.1), (2, 0.9), (3, 0.8)]
    assert {"training_key", "flow_run", "package_version", "mlflow.source.git.commit", "model_uri"} <= set(run.data.tags)
    for used in run.inputs.dataset_inputs:
        assert used.dataset.source_type == "delta_table"
        assert json.loads(used.dataset.source) == {"path": "/tables/silver", "delta_table_version": 7}
    assert tracking.fetch(run_id, "evaluation.json") == b"{}"
    model = Model.load(mlflow.get_logged_model(uri.removeprefix("models:/")).artifact_location)
    assert model.flavors["python_function"]["config"]["small"], "a map asks the network cnn 49 times, and no other"


def test_mlflow_reads_the_dataset_as_one_of_its_own(tracking: MlflowTracking, contents: RunContents, settings: Settings) -> None:
    import mlflow.data

    run_id = tracking.start("run", {"training_key": KEY})
    tracking.log(run_id, contents)
    source = mlflow.data.get_source(client(settings).get_run(run_id).inputs.dataset_inputs[0])
    assert (source.path, source.delta_table_version) == ("/tables/silver", 7)


def test_each_split_is_a_dataset_with_its_context_its_photos_and_the_table_s_schema(
    tracking: MlflowTracking, contents: RunContents, settings: Settings
) -> None:
    run_id = tracking.start("run", {"training_key": KEY})
    tracking.log(run_id, contents)
    logged = {used.dataset.name: used for used in client(settings).get_run(run_id).inputs.dataset_inputs}
    assert {name: {tag.key: tag.value for tag in used.tags} for name, used in logged.items()} == {
        "silver-train": {"mlflow.data.context": "train"},
        "silver-validation": {"mlflow.data.context": "validation"},
        "silver-test": {"mlflow.data.context": "test"},
    }
    profiles = {name: json.loads(used.dataset.profile) for name, used in logged.items()}
    assert profiles == {"silver-train": {"num_rows": 9}, "silver-validation": {"num_rows": 3}, "silver-test": {"num_rows": 4}}
    for used in logged.values():
        columns = Schema.from_json(json.dumps(json.loads(used.dataset.schema)["mlflow_colspec"]))
        assert columns.input_dict() == SILVER_COLUMNS


def test_a_logged_model_is_named_after_the_registered_model_and_the_network(
    tracking: MlflowTracking, contents: RunContents, settings: Settings
) -> None:
    uri = tracking.log(tracking.start("run", {"training_key": KEY}), contents)
    assert client(settings).get_logged_model(uri.removeprefix("models:/")).name == "car_damage_classifier-cnn"


@pytest.mark.parametrize(
    ("registered", "logged"),
    [("a.b.wrecks", "wrecks-cnn"), ("wrecks", "wrecks-cnn"), ('a.b.50% "wrecks"', "50_ _wrecks_-cnn"), ("a.b.x/y:z'", "x_y_z_-cnn")],
)
def test_a_logged_model_s_name_is_one_that_mlflow_takes(registered: str, logged: str) -> None:
    name = model_name(Settings(tracking=Tracking(model=registered)))
    assert name == logged
    _validate_logged_model_name(name)


def test_a_run_whose_model_is_gone_is_not_found(tracking: MlflowTracking, contents: RunContents, settings: Settings) -> None:
    first, second = (tracking.start(name, {"training_key": KEY}) for name in ("first", "second"))
    for run_id in (first, second):
        tracking.finish(run_id, tracking.log(run_id, contents))
    newest = tracking.run_for(KEY, {})
    assert newest is not None
    shutil.rmtree(settings.home / "artifacts" / "models" / newest.model_uri.removeprefix("models:/") / "artifacts" / "artifacts")
    older = tracking.run_for(KEY, {})
    assert older is not None
    assert {newest.run_id, older.run_id} == {first, second}
    client(settings).delete_logged_model(older.model_uri.removeprefix("models:/"))
    assert tracking.run_for(KEY, {}) is None


def finished(tracking: MlflowTracking, contents: RunContents, **tags: str) -> tuple[str, str]:
    """A finished run with these tags: its id and its model's URI."""
    run_id = tracking.start("run", {"training_key": KEY, **tags})
    uri = tracking.log(run_id, contents)
    tracking.finish(run_id, uri)
    return run_id, uri


def is_found_by_those_with_tensorflow_2_1(tracking: MlflowTracking) -> None:
    assert tracking.run_for(KEY, that_train_here()) is None
    assert tracking.run_for(KEY, {"tensorflow": "2.1"}) is not None
    assert tracking.run_for(KEY, {}) is not None


def test_a_run_is_found_by_machines_with_the_minor_versions_that_trained_it(tracking: MlflowTracking, contents: RunContents) -> None:
    finished(tracking, contents, packages="tensorflow==2.1.0\nkeras==3.15.1")
    is_found_by_those_with_tensorflow_2_1(tracking)


def test_a_run_of_an_earlier_release_has_its_packages_in_its_models_requirements(
    tracking: MlflowTracking, contents: RunContents, settings: Settings
) -> None:
    _, uri = finished(tracking, contents)
    files = settings.home / "artifacts" / "models" / uri.removeprefix("models:/") / "artifacts"
    (files / "requirements.txt").write_text("mlflow==3.17.2\ntensorflow-cpu==2.1.0\nkeras==3.15.1\n")
    is_found_by_those_with_tensorflow_2_1(tracking)


def test_two_machines_with_different_packages_find_a_run_each(tracking: MlflowTracking, contents: RunContents) -> None:
    runs = {minor: finished(tracking, contents, packages=f"tensorflow=={minor}.0")[0] for minor in ("2.1", "2.2")}
    for minor, run_id in runs.items():
        found = tracking.run_for(KEY, {"tensorflow": minor})
        assert found is not None
        assert found.run_id == run_id


def test_a_start_whose_request_was_sent_twice_makes_one_run(tracking: MlflowTracking, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    once = MlflowClient.create_run

    def twice(*arguments: Any, **named: Any) -> Any:
        once(*arguments, **named)
        return once(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    run_id = tracking.start("run", {"training_key": KEY})
    assert [(run.run_id, run.status) for run in tracking.recent()] == [(run_id, "RUNNING")]


def test_starting_ends_what_a_kill_left_running_under_the_same_key(tracking: MlflowTracking, settings: Settings) -> None:
    left, other = tracking.start("left", {"training_key": KEY}), tracking.start("other", {"training_key": "other"})
    tracking.start("next", {"training_key": KEY})
    assert client(settings).get_run(left).info.status == "KILLED"
    assert client(settings).get_run(other).info.status == "RUNNING"


def test_a_failed_run_says_why_and_is_not_found(tracking: MlflowTracking, settings: Settings) -> None:
    run_id = tracking.start("run", {"training_key": KEY})
    tracking.fail(run_id, "the disk is full" + "!" * 5000)
    run = client(settings).get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"].startswith("the disk is full")
    assert tracking.run_for(KEY, {}) is None


def test_files_can_be_added_to_a_finished_run(tracking: MlflowTracking) -> None:
    run_id = tracking.start("run", {"training_key": KEY})
    tracking.finish(run_id, "models:/m-1")
    tracking.attach(run_id, {"decision/1.json": b"[1]", "note.txt": b"x"})
    assert tracking.fetch(run_id, "decision/1.json") == b"[1]"
    assert tracking.fetch(run_id, "note.txt") == b"x"


@pytest.mark.parametrize("artifact", ["nothing.json", "no/such/folder.json"])
def test_a_file_that_is_not_there_is_named(tracking: MlflowTracking, artifact: str) -> None:
    run_id = tracking.start("run", {"training_key": KEY})
    with pytest.raises(RegistryError, match=f"{run_id} has no file {artifact}"):
        tracking.fetch(run_id, artifact)


def test_the_latest_training_runs_come_newest_first(tracking: MlflowTracking, settings: Settings) -> None:
    assert tracking.recent(5) == []
    first = tracking.start("first", {"training_key": "1"})
    tracking.finish(first, "models:/m-1")
    second = tracking.start("second", {"training_key": "2"})
    mlflow = client(settings)
    mlflow.create_run(mlflow.get_experiment_by_name("car-damage").experiment_id, run_name="no training")
    assert [(run.run_id, run.status) for run in tracking.recent(5)] == [(second, "RUNNING"), (first, "FINISHED")]
    assert len(tracking.recent(1)) == 1


def test_artifacts_go_to_the_home_folder_even_with_a_space_in_its_name(mlflow_template: Path, tmp_path: Path) -> None:
    home = tmp_path / "a home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    tracking = MlflowTracking(Settings(home=home))
    run_id = tracking.start("run", {"training_key": KEY})
    tracking.attach(run_id, {"note.txt": b"x"})
    assert [file.name for file in (home / "artifacts").rglob("*.txt")] == ["note.txt"]


def test_the_experiment_is_made_once_when_several_start_at_the_same_time(settings: Settings) -> None:
    together = threading.Barrier(4)

    def start(number: int) -> str:
        tracking = MlflowTracking(settings)
        together.wait()
        return tracking.start("run", {"training_key": str(number)})

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(start, range(4)))) == 4


def kind_of_the_experiment(settings: Settings) -> str | None:
    """The tag that decides how MLflow's page opens the experiment."""
    found = client(settings).get_experiment_by_name(settings.tracking.experiment)
    assert found is not None
    return found.tags.get("mlflow.experimentKind")


BEGINNINGS: dict[str, Callable[[Settings], object]] = {
    "training": lambda settings: MlflowTracking(settings).start("run", {"training_key": KEY}),
    "promotion": lambda settings: MlflowHistory(settings).begin(Intention("promotion", 2, 1, "better", "who", "flow")),
}


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_an_experiment_is_made_as_one_whose_page_opens_with_the_training_runs(
    begin: Callable[[Settings], object], settings: Settings
) -> None:
    begin(settings)
    assert kind_of_the_experiment(settings) == "custom_model_development"


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_an_experiment_that_has_no_kind_gets_it_once(begin: Callable[[Settings], object], settings: Settings) -> None:
    mlflow = client(settings)
    mlflow.create_experiment(settings.tracking.experiment, str(settings.home / "artifacts"), tags={"team": "claims"})
    for _ in range(2):
        begin(settings)
    assert kind_of_the_experiment(settings) == "custom_model_development"
    found = mlflow.get_experiment_by_name(settings.tracking.experiment)
    assert found.tags["team"] == "claims"


@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_the_kind_that_a_person_has_chosen_stays(begin: Callable[[Settings], object], settings: Settings) -> None:
    tags = {"mlflow.experimentKind": "genai_development"}
    client(settings).create_experiment(settings.tracking.experiment, str(settings.home / "artifacts"), tags=tags)
    begin(settings)
    assert kind_of_the_experiment(settings) == "genai_development"


def test_a_refused_kind_fails_no_training(settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("only its owner may", PERMISSION_DENIED)

    client(settings).create_experiment(settings.tracking.experiment, str(settings.home / "artifacts"))
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    assert MlflowTracking(settings).start("run", {"training_key": KEY})
    assert "only its owner may" in caplog.text


def test_a_deleted_experiment_is_named(tracking: MlflowTracking, settings: Settings) -> None:
    tracking.start("run", {"training_key": KEY})
    mlflow = client(settings)
    mlflow.delete_experiment(mlflow.get_experiment_by_name("car-damage").experiment_id)
    with pytest.raises(RegistryError, match="experiment car-damage is deleted: restore it"):
        tracking.start("run", {"training_key": KEY})


@pytest.fixture
def hurried() -> Iterator[None]:
    """MLflow makes SQLite wait 20 seconds for a lock. Shorten that to 20 milliseconds."""
    from sqlalchemy import Engine, event

    def hurry(_c: object, _k: object, statement: str, parameters: object, _x: object, _m: bool) -> tuple[str, object]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 20"), parameters

    event.listen(Engine, "before_cursor_execute", hurry, retval=True)
    yield
    event.remove(Engine, "before_cursor_execute", hurry)


def test_a_database_of_another_version_of_mlflow_is_not_retried_and_told_with_the_command(tracking: MlflowTracking, home: Path) -> None:
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'of later'")
    with pytest.raises(RegistryError, match=r"of another version than the installed MLflow.*`mlflow db upgrade`.*found version of later"):
        tracking.recent()


@pytest.mark.usefixtures("hurried")
def test_a_locked_database_may_be_free_later_and_is_told_in_one_line(
    tracking: MlflowTracking, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_id = tracking.start("run", {"training_key": KEY})
    with closing(sqlite3.connect(home / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="database is locked") as told:
            tracking.fail(run_id, "never written")
    assert "\n" not in str(told.value)
    assert "Traceback" not in capfd.readouterr().err


def test_a_database_that_cannot_be_written_is_not_retried_and_told_in_one_line(tracking: MlflowTracking) -> None:
    from sqlalchemy import Engine, event

    def read_only(_c: object, cursor: sqlite3.Cursor, *_: object) -> None:
        cursor.execute("PRAGMA query_only = ON")

    run_id = tracking.start("run", {"training_key": KEY})
    event.listen(Engine, "before_cursor_execute", read_only)
    try:
        with pytest.raises(RegistryError, match="MLflow's database cannot be written: give this user access") as told:
            tracking.fail(run_id, "never written")
    finally:
        event.remove(Engine, "before_cursor_execute", read_only)
    assert "\n" not in str(told.value)


@contextmanager
def server(status: int, body: str) -> Iterator[str]:
    """An MLflow server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 - http.server requires this name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, MLflow's client retries for minutes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def asked(uri: str, tmp_path: Path) -> Callable[[], object]:
    tracking = MlflowTracking(Settings(home=tmp_path, tracking={"uri": uri}))  # type: ignore[arg-type]
    return lambda: tracking.run_for(KEY, {})


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, "Service Unavailable", Unavailable),
        (500, '{"error_code": "INTERNAL_ERROR", "message": "boom"}', Unavailable),
        (502, "<html>bad gateway</html>", Unavailable),
        (429, '{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}', Unavailable),
        (429, "slow down", Unavailable),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', RegistryError),
        (401, "who are you", RegistryError),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "what"}', RegistryError),
    ],
)
def test_a_servers_refusal_passes_or_not_by_its_status(status: int, body: str, kind: type[CarDamageError], tmp_path: Path) -> None:
    with server(status, body) as uri, pytest.raises(kind, match="looking for a finished run"):
        asked(uri, tmp_path)()


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with server(200, "{}") as uri:
        pass
    with pytest.raises(Unavailable, match="looking for a finished run"):
        asked(uri, tmp_path)()


@pytest.mark.usefixtures("impatient")
def test_the_address_of_a_run_is_the_servers_page(tmp_path: Path) -> None:
    body = '{"run": {"info": {"run_id": "r1", "experiment_id": "5", "status": "RUNNING"}, "data": {}}}'
    with server(200, body) as uri:
        page = f"{uri}/#/experiments/5/runs/r1?workflowType=machine_learning"
        tracking = MlflowTracking(Settings(home=tmp_path, tracking={"uri": uri}))  # type: ignore[arg-type]
        assert tracking.url("r1") == page
        assert tracking.url("r1", "report.html") == page.replace("?", "/artifacts/report.html?")


def test_a_cancelled_flow_run_s_training_ends_and_nothing_else_does(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    tracking = MlflowTracking(settings)
    mine, other = (tracking.start("a run", {"training_key": flow, "flow_run": flow}) for flow in ("cancelled", "another"))
    move = MlflowHistory(settings).begin(Intention("promotion", 2, 1, "better", "who", "cancelled"))
    tracking.abandon("cancelled")
    assert {run.run_id: run.status for run in tracking.recent(5)} == {mine: "KILLED", other: "RUNNING"}
    assert [one.run_id for one in MlflowHistory(settings).moves(UNDERWAY)] == [move.run_id]


def test_the_address_of_a_run_in_a_store_is_that_of_the_pages_which_the_settings_name(tmp_path: Path) -> None:
    tracking = MlflowTracking(Settings(home=tmp_path, tracking={"ui": "http://127.0.0.1:5000"}))  # type: ignore[arg-type]
    run = tracking.start("a run", {})
    assert re.fullmatch(rf"http://127\.0\.0\.1:5000/#/experiments/\d+/runs/{run}\?workflowType=machine_learning", str(tracking.url(run)))


def test_without_a_server_a_run_has_no_address(tracking: MlflowTracking) -> None:
    assert tracking.url("r1") is None


def test_mlflow_says_nothing_on_the_terminal_starts_no_spark_and_needs_no_databricks_sdk(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from car_damage.settings import Settings
from car_damage.adapters.mlflow.client import client
from car_damage.adapters.mlflow.tracking import MlflowTracking
tracking = MlflowTracking(Settings(home=Path({str(tmp_path)!r}) / "new"))
run = tracking.start("run", {{"training_key": "k"}})
tracking.attach(run, {{"a.txt": b"a"}})
tracking.finish(run, "models:/m-1")
assert tracking.fetch(run, "a.txt") == b"a"
spark = sys.modules.get("pyspark")  # MLflow imports it where it is installed
assert spark is None or spark.SparkContext._gateway is None
assert "databricks.sdk" not in sys.modules  # no call leaves this machine
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_other_loggers_keep_their_level(settings: Settings) -> None:
    before = logging.getLogger().level
    client(settings)
    assert logging.getLogger().level == before


@pytest.mark.parametrize(
    "told",
    [
        "(sqlite3.IntegrityError) UNIQUE constraint failed: inputs.source_id",
        "(psycopg2.errors.UniqueViolation) x",
        "(pymysql.err.IntegrityError) (1062, \"Duplicate entry 'x' for key 'PRIMARY'\")",
    ],
)
def test_a_call_that_mlflow_s_client_repeats_after_a_lost_response_may_be_tried_again(told: str) -> None:
    with pytest.raises(Unavailable, match="lost response"), translated("logging run 1"):
        raise MlflowException(told, error_code=BAD_REQUEST)


def test_a_row_that_the_database_refuses_for_another_reason_is_not_tried_again() -> None:
    with pytest.raises(RegistryError) as refused, translated("logging run 1"):
        raise MlflowException("(sqlite3.IntegrityError) NOT NULL constraint failed: inputs.source_id", error_code=BAD_REQUEST)
    assert not isinstance(refused.value, Unavailable)
