"""A backup is complete, or it is not there."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

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
