"""A backup is complete, or it is not there."""

import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from car_damage.adapters.backup import back_up
from car_damage.errors import RequestRefused, Unavailable


@pytest.fixture(params=["home", "what? #1 100%"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A home folder with a database and a file, at a path with marks that mean something in an address."""
    found = tmp_path / str(request.param)
    (found / "artifacts").mkdir(parents=True)
    (found / "artifacts" / "model.onnx").write_bytes(b"weights")
    with closing(sqlite3.connect(found / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE runs AS SELECT 7 AS run")
    return found


def test_a_copy_has_files_and_databases_and_nothing_lies_beside_it(home: Path, tmp_path: Path) -> None:
    assert back_up(home, tmp_path / "copies" / "one") > 0
    with closing(sqlite3.connect(tmp_path / "copies" / "one" / "mlflow.db")) as copy:
        assert copy.execute("SELECT run FROM runs").fetchall() == [(7,)]
    assert (tmp_path / "copies" / "one" / "artifacts" / "model.onnx").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["one"]


def test_requests_that_become_rows_while_the_home_is_copied_are_in_the_copy(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files, or as rows of their table."""
    noted, copied = home / "requests" / "one.parquet", shutil.copy2
    write_deltalake(home / "tables" / "log", pa.table({"request_id": ["earlier"]}))
    noted.parent.mkdir()
    noted.write_bytes(b"one")

    def copy(file: Path, target: Path) -> None:
        copied(file, target)
        if file.suffix == ".parquet" and file.parent.name == "log" and noted.exists():
            noted.unlink()  # it was taken up, too late for the table that has just been copied

    monkeypatch.setattr(shutil, "copy2", copy)
    back_up(home, tmp_path / "one")
    assert not noted.exists()
    assert (tmp_path / "one" / "requests" / "one.parquet").exists()


def _checkpoint(table: DeltaTable) -> None:
    table.create_checkpoint()


def _begin_the_log(table: DeltaTable) -> None:
    table.create_checkpoint()
    for version in range(table.version()):
        (Path(table.table_uri.removeprefix("file://")) / "_delta_log" / f"{version:020}.json").unlink(missing_ok=True)


@pytest.mark.parametrize("meanwhile", [_checkpoint, _begin_the_log])
def test_a_table_whose_log_changes_while_it_is_copied_can_be_read_in_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[DeltaTable], None]
) -> None:
    home, copied, changed = tmp_path / "home", shutil.copy2, []
    table = home / "tables" / "photos"
    for number in range(4):
        write_deltalake(table, pa.table({"number": [number]}), mode="append")
        if number == 1:
            DeltaTable(table).create_checkpoint()

    def copy(file: Path, target: Path) -> None:
        if not changed:
            changed.append(meanwhile(DeltaTable(table)))
        copied(file, target)

    monkeypatch.setattr(shutil, "copy2", copy)
    back_up(home, tmp_path / "one")
    assert changed
    assert sorted(DeltaTable(tmp_path / "one" / "tables" / "photos").to_pyarrow_table()["number"].to_pylist()) == [0, 1, 2, 3]


def test_only_its_owner_may_open_a_copy(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "one")
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700


class Killed(BaseException):
    """The process ends."""


def test_what_an_ended_copy_leaves_never_has_the_name_of_a_whole_one(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(*_: object) -> None:
        raise Killed

    into = tmp_path / "copies" / "one"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", end)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill cleans nothing
        with pytest.raises(Killed):
            back_up(home, into)
    assert not into.exists()
    with pytest.raises(RequestRefused, match=r"one\.part is there"):
        back_up(home, into)
    shutil.rmtree(tmp_path / "copies")
    monkeypatch.setattr(shutil, "copy2", end)
    with pytest.raises(Killed):
        back_up(home, into)
    assert not list(into.parent.iterdir())


def test_a_database_that_is_broken_and_a_full_disk_are_errors_of_ours(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy2", full)
        with pytest.raises(Unavailable, match="No space left"):
            back_up(home, tmp_path / "one")
    (home / "mlflow.db").write_bytes(b"SQLite format 3\0 and nothing that makes sense")
    with pytest.raises(Unavailable, match="cannot be copied"):
        back_up(home, tmp_path / "two")
