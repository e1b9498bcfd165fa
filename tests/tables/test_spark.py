"""Behaviour in which Spark differs from delta-rs: work on its machines, their faults, concurrent writers, and its start."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from car_damage.adapters.databricks.volume import Volume
from car_damage.adapters.folder import Folder
from car_damage.adapters.tables import spark_files, spark_work
from car_damage.adapters.tables.delta import ATTEMPTS
from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.adapters.tables.retention import KEPT, OWNERS
from car_damage.adapters.tables.spark import SparkDelta
from car_damage.adapters.tables.spark_session import session
from car_damage.errors import CommitConflict, SettingsError, Terminal, Unavailable
from car_damage.model.networks.seer import ROW as SEEN
from car_damage.model.networks.seer import Seer
from car_damage.photo.limits import Limits
from car_damage.photo.preparation import Preparation
from car_damage.settings import Images, Settings, Spark
from deployments import demo_photos
from tests import engines
from tests.engines import CONNECT, SPARK
from tests.searched import found
from tests.tables.conftest import Workshop
from tests.tables.things import NAME, content, keys, rows

ROW = pa.schema([pa.field("size", pa.int64()), pa.field("note", pa.string())])


@pytest.fixture(params=[SPARK, CONNECT])
def tables(request, tmp_path, sessions):
    return engines.tables(request.param, tmp_path, sessions)


@pytest.fixture
def classic(tmp_path, sessions):
    return engines.tables(SPARK, tmp_path, sessions)


@dataclass(frozen=True)
class Size:
    """Returns a file's size; the content of the file may make it fail."""

    folder: str

    def __call__(self, path, data):
        if data == b"kill once":
            flag = Path(self.folder, "killed")
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif data == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif data == b"memory":
            bytearray(8 << 30)
        elif data == b"wrong":
            raise ZeroDivisionError(path)
        return {"size": len(data), "note": None}

    def fatal(self, path, data, why):
        return {"size": -len(data), "note": why}


def no_session():
    raise AssertionError("Spark was started")


def put(folder, contents):
    """Write files; returns the table that `each` takes."""
    for number, data in enumerate(contents):
        (folder / f"f{number:04}").write_bytes(data)
    paths = sorted(path for path in folder.iterdir() if path.name.startswith("f"))
    return pa.table({"path": [str(path) for path in paths], "size": pa.array([path.stat().st_size for path in paths], pa.int64())})


def sizes(done):
    return {Path(row["path"]).name: row["size"] for row in done.to_pylist()}


def test_each_file_is_worked_on_once_and_progress_told_to_the_last(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(spark_files, "PART_BYTES", 4 * spark_files.OPEN_BYTES)
    monkeypatch.setattr(spark_work, "LEAST", 2)
    files, told = put(tmp_path, [b"x" * size for size in range(40)]), []
    done = tables.each(files, Size(""), ROW, told.append)
    assert done.schema.names == ["path", "unreadable", "size", "note"]
    assert sizes(done) == {f"f{size:04}": size for size in range(40)}
    assert told == sorted(told)
    assert told[-1] == 40
    assert len(told) > 1


def test_no_files_are_no_rows_and_start_nothing(tmp_path):
    done = SparkDelta(no_session, Folder(), tmp_path).each(put(tmp_path, []), Size(""), ROW, lambda _: None)
    assert (done.num_rows, done.schema.names) == (0, ["path", "unreadable", "size", "note"])


def test_a_commit_that_cannot_be_read_may_be_read_later(tmp_path):
    tables = SparkDelta(no_session, Folder(), tmp_path)
    (Path(tables.uri(NAME)) / "_delta_log" / f"{0:020}.json").mkdir(parents=True)
    with pytest.raises(Unavailable, match=r"its log cannot be read \(.*Is a directory"):
        tables._own(NAME, "a mark", -1)


def test_a_task_has_photos_of_bounded_bytes_and_number():
    sizes = pa.array([1000] * 3000 + [5 << 20] * 20, pa.int64())
    files = pa.table({"path": pa.array([str(number) for number in range(3020)]), "size": sizes})
    parts = [set(map(int, part)) for part in spark_files.parts(files)["paths"].to_pylist()]
    assert sorted(number for part in parts for number in part) == list(range(3020))
    assert max(len(part) for part in parts) <= spark_files.PART_BYTES / spark_files.OPEN_BYTES
    assert max(sum(sizes[number].as_py() for number in part) for part in parts) <= spark_files.PART_BYTES + (5 << 20)
    assert len(parts) < 25


def test_a_file_that_cannot_be_read_is_reported_and_the_others_are_not_held_up(tables, tmp_path):
    files = put(tmp_path, [b"one", b"two"])
    (tmp_path / "f0000").unlink()
    done = {Path(row["path"]).name: row for row in tables.each(files, Size(""), ROW, lambda _: None).to_pylist()}
    assert "does not exist" in done["f0000"]["unreadable"]
    assert (done["f0001"]["unreadable"], done["f0001"]["size"]) == (None, 3)


def test_a_python_worker_that_is_killed_costs_nothing(classic, tmp_path):
    files = put(tmp_path, [b"one", b"kill once", b"three"])
    assert sizes(classic.each(files, Size(str(tmp_path)), ROW, lambda _: None)) == {"f0000": 3, "f0001": 9, "f0002": 5}
    assert (tmp_path / "killed").exists()


def test_files_that_end_their_process_are_told_from_the_others(tables, tmp_path):
    files = put(tmp_path, [b"one", b"kill", b"memory", b"four"])
    done = tables.each(files, Size(""), ROW, lambda _: None)
    assert sizes(done) == {"f0000": 3, "f0001": -4, "f0002": -6, "f0003": 4}
    notes = {Path(row["path"]).name: row["note"] for row in done.to_pylist() if row["note"]}
    assert notes == {"f0001": "decoding ended its process (SIGKILL)", "f0002": "decoding needed more memory than allowed"}


def mean_network():
    """A backbone as ONNX: the mean of each colour."""
    from onnx import TensorProto, helper

    photos = helper.make_tensor_value_info("photo", TensorProto.UINT8, [None, 224, 224, 3])
    seen = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 3])
    nodes = [
        helper.make_node("Cast", ["photo"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["features"], axes=[1, 2], keepdims=0),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "means", [photos], [seen]), opset_imports=[helper.make_opsetid("", 15)], ir_version=8
    )
    return model.SerializeToString()


def test_features_are_computed_on_spark_s_machines_exactly_as_here(tables, tmp_path, monkeypatch):
    files = put(tmp_path, [demo_photos.photo("major", 1), b"no photo", demo_photos.photo("minor", 2)])
    seer = Seer(mean_network(), Limits(), Preparation(), ("plain", "zoomed"))
    there = tables.each(files, seer, SEEN, lambda _: None)
    here = DeltaRs(tmp_path / "tables", Folder(), Images()).each(files, seer, SEEN, lambda _: None)
    assert there.sort_by("path").to_pylist() == here.sort_by("path").to_pylist()
    assert [None if row is None else len(row) for row in there.sort_by("path")["features"].to_pylist()] == [6, None, 6]
    monkeypatch.setattr(seer, "_packages", {"pillow": "1.0"})
    seer._name = "another"
    with pytest.raises(Terminal, match="install these versions on all machines"):
        tables.each(files, seer, SEEN, lambda _: None)
    monkeypatch.setattr(spark_work, "LARGEST", 100)
    with pytest.raises(Terminal, match="travel to Spark's machines"):
        tables.each(files, seer, SEEN, lambda _: None)


def test_a_mistake_in_the_work_is_an_error_that_shows_it(tables, tmp_path):
    with pytest.raises(Terminal, match="ZeroDivisionError"):
        tables.each(put(tmp_path, [b"wrong"]), Size(""), ROW, lambda _: None)


class Slow(Size):
    """Takes longer than any test waits."""

    def __call__(self, path, data):
        Path(self.folder, "part").write_text(str(os.getpid()))
        Path(self.folder, "part").rename(Path(self.folder, "begun"))
        time.sleep(600)


def assert_ends_when_cancelled(work, begun):
    """Cancel the work as soon as the file names a process that works on it; the process must end."""

    class Cancelled(BaseException):
        pass

    def cancel(*_):
        raise Cancelled

    def cancel_when_begun():
        deadline = time.monotonic() + 120
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, cancel)
    other = threading.Thread(target=cancel_when_begun)
    try:
        other.start()
        with pytest.raises(Cancelled):
            work()
    finally:
        other.join()
        signal.signal(signal.SIGUSR1, before)
    at_work = Path("/proc", begun.read_text())
    deadline = time.monotonic() + 60
    while at_work.exists():
        assert time.monotonic() < deadline, "the task goes on"
        time.sleep(0.1)


def test_a_run_that_is_cancelled_ends_its_tasks_in_spark(tables, tmp_path):
    files = put(tmp_path, [b"one"])
    assert_ends_when_cancelled(lambda: tables.each(files, Slow(str(tmp_path)), ROW, lambda _: None), tmp_path / "begun")


SLOW_MODEL = """
import os
import time
from pathlib import Path

import mlflow
import pandas


class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pandas.DataFrame, params=None):
        Path({begun!r}).with_suffix(".part").write_text(str(os.getpid()))
        Path({begun!r}).with_suffix(".part").rename({begun!r})
        time.sleep(600)


mlflow.models.set_model(Model())
"""


def test_a_run_that_is_cancelled_ends_the_models_of_its_tasks(classic, tmp_path):
    import mlflow

    begun = tmp_path / "begun"
    (tmp_path / "slow.py").write_text(SLOW_MODEL.format(begun=str(begun)))
    mlflow.pyfunc.save_model(path=str(tmp_path / "model"), python_model=str(tmp_path / "slow.py"), pip_requirements=[])
    files = put(tmp_path, [b"one"])
    assert_ends_when_cancelled(lambda: list(classic.answers(files, tmp_path / "model", 300.0, "this", 100)), begun)


class Beaten(SparkDelta):
    """Tables to which another writer commits just after their version was read, `times` times."""

    def __init__(self, session, root, times):
        super().__init__(session, Folder(), root, lambda _: None)
        self.times = times

    def _latest(self, table):
        there = super()._latest(table)
        if self.times:
            self.times -= 1
            write_deltalake(self.uri(table), rows(**{f"other{self.times}": 0}), mode="append")
        return there


def test_a_writer_that_comes_between_is_noticed_with_a_base(classic, tmp_path, sessions):
    classic.merge(NAME, rows(a=1), ["key"])
    with pytest.raises(CommitConflict, match="after version 0"):
        Beaten(sessions.classic, tmp_path, 1).merge(NAME, rows(a=2), ["key"], base=0)
    assert content(classic)[0] == {"a": 2, "other0": 0}


def test_two_that_create_a_table_at_once_both_get_their_rows_in(classic, tmp_path, sessions):
    assert Beaten(sessions.classic, tmp_path, 1).merge(NAME, rows(a=2), ["key"]) == 1
    assert content(classic)[0] == {"a": 2, "other0": 0}


def test_two_threads_that_create_and_write_at_once_lose_and_double_nothing(classic):
    barrier, failed = threading.Barrier(2), []

    def write(writer):
        try:
            barrier.wait()
            for turn in range(2):
                classic.merge(NAME, rows(shared=writer, **{f"w{writer}t{turn}": turn}), ["key"])
        except Exception as error:  # noqa: BLE001 - shown below
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(240)
    assert failed == []
    table, version = classic.read(NAME, ["key"])
    assert sorted(table["key"].to_pylist()) == ["shared", "w0t0", "w0t1", "w1t0", "w1t1"]
    assert version == 3


def test_a_java_process_that_ends_is_told_with_what_to_do(tmp_path, sessions):
    sessions.classic()  # skips the test where there is no Java
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import psutil\n"
        "from car_damage.adapters.folder import Folder\n"
        "from car_damage.adapters.tables.spark import SparkDelta\n"
        "from car_damage.adapters.tables.spark_session import session\n"
        "from car_damage.errors import Terminal\n"
        "from car_damage.settings import Spark\n"
        "from tests.tables.things import NAME, rows\n"
        "root = Path(sys.argv[1])\n"
        "started = session(Spark(master='local[1]'), root)\n"
        "[java] = [one for one in psutil.Process().children(recursive=True) if one.name() == 'java']\n"
        "java.kill()\n"
        "java.wait()\n"
        "try:\n    SparkDelta(lambda: started, Folder(), root).merge(NAME, rows(a=1), ['key'])\n"
        "except Terminal as error:\n    print('told:', error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False)
    [told] = [line for line in ended.stdout.splitlines() if line.startswith("told:")] or [ended.stderr[-3000:]]
    assert "Spark's Java process has ended" in told
    assert "spark.driver.memory" in told


def test_photos_that_only_the_files_api_reaches_are_none_for_spark(tmp_path, sessions):
    with pytest.raises(SettingsError, match="not mounted here"):
        SparkDelta(no_session, Volume(), tmp_path).each(put(tmp_path, [b"one"]), Size(""), ROW, lambda _: None)


class Interrupted(SparkDelta):
    """Tables to which another writer commits while Spark computes a MERGE, `times` times."""

    def __init__(self, session, root, times):
        self.slept = []
        super().__init__(session, Folder(), root, self.slept.append)
        self.times = times

    def _frame(self, changed):
        self.times -= 1
        if self.times < 0:
            return super()._frame(changed)
        table, name = self.uri(NAME), f"other{self.times}"

        def late(batches):
            write_deltalake(table, rows(**{name: 0}), mode="append")
            yield from batches

        return super()._frame(changed).coalesce(1).mapInArrow(late, spark_work.ddl(changed.schema))


def test_a_merge_that_meets_a_commit_is_computed_again(classic, tmp_path, sessions):
    classic.merge(NAME, rows(a=1), ["key"])
    beaten = Interrupted(sessions.classic, tmp_path, 2)
    beaten.merge(NAME, rows(a=2), ["key"])
    assert {name: value for name, value in content(classic)[0].items() if value} == {"a": 2}
    assert set(content(classic)[0]) == {"a", "other0", "other1"}
    assert len(beaten.slept) == 2


def test_a_merge_gives_up_after_a_limited_number_of_conflicts(classic, tmp_path, sessions):
    classic.merge(NAME, rows(a=1), ["key"])
    beaten = Interrupted(sessions.classic, tmp_path, 1000)
    with pytest.raises(CommitConflict, match=NAME):
        beaten.merge(NAME, rows(a=2), ["key"])
    assert len(beaten.slept) == ATTEMPTS - 1


def test_a_driver_that_is_killed_between_bronze_and_silver_is_mended_by_the_next_run(tmp_path, sessions, photo):
    sessions.classic()  # skips the test where there is no Java
    workshop = Workshop(tmp_path, lambda root: engines.tables(SPARK, root, sessions))
    for seed in range(4):
        workshop.put(f"minor/p{seed}.jpg", photo(seed % 3))
    program = (
        "import os, signal, sys\n"
        "from car_damage.pipeline import SilverRequest, ValidateRequest\n"
        "from car_damage.stage import silent\n"
        "from car_damage.platform import Target\n"
        "from car_damage.settings_sources import load\n"
        "from car_damage.stages.silver import STAGE as SILVER\n"
        "from car_damage.stages.validate import STAGE as VALIDATE\n"
        "target = Target(load())\n"
        "version = VALIDATE.work(ValidateRequest('killed'), target, silent).bronze_version\n"
        "merge = target.tables.merge\n"
        "def killed(*given, **named):\n"
        "    merge(*given, **named)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "target.tables.merge = killed\n"
        "SILVER.work(SilverRequest('killed', version), target, silent)\n"
    )
    variables = {
        "HOME": str(tmp_path / "home"),
        "LANDING__FOLDER": str(workshop.landing),
        "TABLES__ENGINE": "spark",
        "SPARK__MASTER": "local[1]",
    }
    environment = os.environ | {f"CAR_DAMAGE_{name}": value for name, value in variables.items()}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
    assert {row["ingest_run"] for row in workshop.bronze_rows()} == {"killed"}
    assert sorted(reason or "" for _, reason in workshop.bronze().values()) == ["", "", "", "duplicate"]
    validated, silver = workshop.run()
    assert (validated.new, silver.added, silver.rows, silver.rejected) == (0, 3, 3, {"duplicate": 1})


def test_without_java_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Terminal, match=r"there is no Java; .* openjdk-17-jre-headless"):
        session(Spark(), tmp_path)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(Terminal, match=f"JAVA_HOME={tmp_path}"):
        session(Spark(), tmp_path)


def test_an_old_java_is_told_by_its_version(monkeypatch, tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.20\" 2023-07-18' >&2\n")
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(Terminal, match=r"Java 11; .* Java 17 or later"):
        session(Spark(), tmp_path)


@pytest.mark.parametrize(
    ("package", "master"), [("pyspark.sql", "local[1]"), ("delta", "local[1]"), ("pyspark.sql.connect.session", "sc://x")]
)
def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch, tmp_path, package, master):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Terminal, match=r"pip install 'car-damage\[spark\]'"):
        session(Spark(master=master), tmp_path)


@pytest.mark.parametrize("told", ["not a version", ""])
def test_a_java_that_does_not_work_is_told_by_its_words(monkeypatch, tmp_path, told):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(Terminal, match=r"does not run .*Java 17 or later"):
        session(Spark(), tmp_path)
    java.chmod(java.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(Terminal, match=f"-version prints no version, but: {told or 'nothing'}; .*Java 17 or later"):
        session(Spark(), tmp_path)


def test_a_connect_server_that_is_not_there_is_told_at_once_and_without_its_token(tmp_path):
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9") as told:
        session(Spark(master="sc://127.0.0.1:9/;token=secret"), tmp_path)
    assert "secret" not in str(told.value)
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("master", ["sc://127.0.0.1:nine", "sc://127.0.0.1:9/;token=secret==", "sc://127.0.0.1:9/a/path;token=secret"])
def test_an_address_that_is_none_is_a_mistake_in_the_settings_and_not_repeated(tmp_path, master):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        with pytest.raises(SettingsError, match=r"spark\.master") as told:
            session(Spark(master=master.replace(":9/", f":{listening.getsockname()[1]}/")), tmp_path)
    assert "secret" not in str(told.value)


def test_a_master_that_is_not_there_is_told_at_once(tmp_path, sessions):
    sessions.classic()  # skips the test where there is no Java
    with pytest.raises(Unavailable, match=r"no Spark master answers \(127\.0\.0\.1:9: Connection refused; 127\.0\.0\.1:7: "):
        session(Spark(master="spark://127.0.0.1:9,127.0.0.1:7"), tmp_path)
    with pytest.raises(SettingsError, match=r"spark\.master: host is not a host and port"):
        session(Spark(master="spark://host"), tmp_path)


def test_jars_that_cannot_be_fetched_are_one_line_that_names_maven_central(tmp_path, sessions):
    sessions.classic()  # skips the test where there is no Java
    nowhere = tmp_path / "ivysettings.xml"
    nowhere.write_text(
        '<ivysettings><settings defaultResolver="none"/><resolvers><filesystem name="none">'
        f'<artifact pattern="{tmp_path}/none/[artifact].[ext]"/></filesystem></resolvers></ivysettings>'
    )
    program = (
        "from car_damage.adapters.tables.spark_session import session\n"
        "from car_damage.errors import Terminal\n"
        "from car_damage.settings import Spark\n"
        "from pathlib import Path\n"
        f"conf = {{'spark.jars.ivySettings': {str(nowhere)!r}, 'spark.jars.ivy': {str(tmp_path / 'ivy')!r}}}\n"
        "try:\n    session(Spark(master='local[1]', conf=conf), Path('nowhere'))\n"
        "except Terminal as error:\n    print('told:', error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240, check=True)
    [told] = [line for line in ended.stdout.splitlines() if line.startswith("told:")]
    assert "Maven Central" in told


def test_settings_choose_the_engine_and_start_nothing(tmp_path):
    from car_damage.platform import Target

    by_name = Target(Settings(home=tmp_path, tables={"engine": "spark"})).tables
    assert by_name.uri(NAME) == f"{tmp_path}/tables/lab/bronze/things"
    in_catalog = Target(Settings(home=tmp_path, tables={"engine": "spark", "names": "catalog"})).tables
    assert in_catalog.uri(NAME) == NAME


@pytest.mark.parametrize("kind", ["classic", "connected"])
def test_a_table_in_a_catalog_has_a_comment_and_is_read_and_written_by_its_three_level_name(tmp_path, sessions, kind):
    """Delta's catalog works in open-source Spark under this name only: https://github.com/delta-io/delta/issues/3312"""
    session = getattr(sessions, kind)()
    schema = f"spark_catalog.lab_{kind}"
    session.sql(f"CREATE SCHEMA {schema} LOCATION '{tmp_path}/{kind}'").collect()
    tables, name = SparkDelta(lambda: session, Folder(), None), f"{schema}.things"
    try:
        assert tables.merge(name, rows(a=1), ["key"]) == 0
        assert tables.merge(name, rows(a=2, b=3), ["key"], base=0) == 1
        assert tables.read(name, ["value"])[0]["value"].to_pylist() == [2, 3]
        told = {row["col_name"]: row for row in session.sql(f"DESCRIBE EXTENDED {name}").collect()}
        assert told["Comment"]["data_type"] == "Things of a lab, each with somebody's note."
        assert told["value"]["comment"] == "What it's worth."
        with pytest.raises(CommitConflict):
            tables._create(name, rows(a=1))
        session.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')").collect()  # as Databricks does
        tables.merge(name, rows(forgotten=4, c=5), ["key"])
        tables.merge(name, rows(), ["key"], remove=keys("forgotten"))
        assert "it" in {one.partition(" ")[0] for one in found(tmp_path, {"it": b"forgotten"}) if "_delta_log" not in one}
        assert "delta.logRetentionDuration" in tables.purge(name, lambda _: False)
        assert not [one for one in found(tmp_path, {"it": b"forgotten"}) if "_delta_log" not in one]
        assert sorted(tables.read(name, ["value"])[0]["value"].to_pylist()) == [2, 3, 5]
        assert not retention(session, name)
        # A call that was killed half way is mended by the next one, which then finds the owner's value.
        owners = {KEPT: "interval 3 days"}
        session.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('{KEPT}' = 'interval 0 hours', '{OWNERS}' = '{owners[KEPT]}')").collect()
        tables.purge(name, lambda _: False)
        assert retention(session, name) == owners
    finally:
        session.sql(f"DROP SCHEMA {schema} CASCADE").collect()


def retention(session, name):
    return {row["key"]: row["value"] for row in session.sql(f"SHOW TBLPROPERTIES {name}").collect() if "retention" in row["key"].lower()}


def test_names_of_a_catalog_need_spark(tmp_path):
    with pytest.raises(ValueError, match=r"tables\.engine"):
        Settings(home=tmp_path, tables={"names": "catalog"})
