"""A home folder that is opened at another path than before: what MLflow's database stores leads to the new one."""

import gc
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from car_damage.adapters import home as homes
from car_damage.adapters import relocation
from car_damage.adapters.home import NOTE, Note, noted
from car_damage.adapters.mlflow.client import client, experiment_id
from car_damage.errors import SettingsError, Terminal, Unavailable
from car_damage.pipeline import training_key
from car_damage.platform import Target, as_first_used
from car_damage.ports import CHAMPION, RunContents
from car_damage.settings import Settings

KEY = "k" * 64
MARKS = "a % # ' é ; : * & + $HOME {} ~ <> ` (b)"
"""Every mark that a home's path may have."""


@pytest.fixture(scope="module", autouse=True)
def _little_to_collect(network_file: Path) -> Iterator[None]:
    """`opened` collects garbage. Without what is there already, TensorFlow above all, this takes no half a second each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def opened(home: Path) -> Target:
    """As another process opens it, after the earlier ones have ended."""
    _artifact_repos_cache.clear()  # in its process, MLflow remembers where the files of a run are
    gc.collect()
    target = Target(Settings(home=home))
    assert target.home is not None
    return target


def with_a_champion(home: Path, contents: RunContents) -> str:
    """A finished training whose version is live. Returns its run."""
    target = opened(home)
    run_id = target.tracking.start("run", {"training_key": KEY})
    uri = target.tracking.log(run_id, contents)
    target.tracking.finish(run_id, uri)
    target.registry.move(CHAMPION, target.registry.create(run_id, uri, {}, "").version)
    return run_id


def stored(home: Path) -> str:
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        return "\n".join(database.iterdump())


def files(home: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in home.rglob("*") if path.is_file()}


def is_whole(home: Path, earlier: Path, run_id: str, folder: Path) -> None:
    """Everything that was there is found at this path, and what comes is written there."""
    target = opened(home)
    found = target.tracking.run_for(KEY, {})
    champion = target.registry.champion()
    assert found is not None
    assert champion is not None
    assert found.run_id == champion.run_id == run_id
    folder.mkdir()
    assert (target.registry.download(champion.uri, folder) / "MLmodel").is_file()
    assert target.tracking.fetch(run_id, "evaluation.json") == b"{}"
    again = target.tracking.start("again", {"training_key": "other"})
    target.tracking.attach(again, {"note.txt": b"of the new path"})
    assert (home / "artifacts" / again / "artifacts" / "note.txt").is_file()
    assert f"{earlier}/" not in stored(home).replace(f"{home}/", "")


@pytest.mark.parametrize("new", ["moved", "home/inside", MARKS])
def test_a_home_that_was_moved_has_its_trainings_and_its_champion(home: Path, contents: RunContents, tmp_path: Path, new: str) -> None:
    run_id = with_a_champion(home, contents)
    aside, there = home.rename(tmp_path / "aside"), tmp_path / new
    there.parent.mkdir(exist_ok=True)
    is_whole(aside.rename(there), home, run_id, tmp_path / "fetched")
    assert home.exists() == there.is_relative_to(home)
    assert noted(there) == Note(path=there, first=home)


def test_a_move_that_was_killed_on_the_way_is_ended_by_the_next_process(home: Path, contents: RunContents, tmp_path: Path) -> None:
    run_id, note = with_a_champion(home, contents), (home / NOTE).read_bytes()
    there = home.rename(tmp_path / "aside")
    home.mkdir()
    there = there.rename(home / "inside")
    opened(there)
    (there / NOTE).write_bytes(note)
    is_whole(there, home, run_id, tmp_path / "fetched")


def test_a_move_from_the_version_before_is_ended_too(
    home: Path, contents: RunContents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = with_a_champion(home, contents)
    (home / NOTE).unlink()
    there = home.rename(tmp_path / "there")
    with monkeypatch.context() as killed:
        killed.setattr(relocation, "move_photos", fails)
        with pytest.raises(Unavailable, match="no room"):
            opened(there)
    assert noted(there) == Note(path=home, first=home)
    is_whole(there, home, run_id, tmp_path / "fetched")


def fails(*_: object) -> None:
    raise Unavailable("no room")


@pytest.mark.parametrize("is_noted", [True, False], ids=["noted", "of the version before"])
def test_a_copy_leaves_the_original_as_it_is(home: Path, contents: RunContents, tmp_path: Path, is_noted: bool) -> None:
    run_id = with_a_champion(home, contents)
    if not is_noted:
        (home / NOTE).unlink()
    before, copy = files(home), tmp_path / "copy"
    shutil.copytree(home, copy)
    is_whole(copy, home, run_id, tmp_path / "fetched")
    assert files(home) == before
    is_whole(home, copy, run_id, tmp_path / "fetched from the original")


def test_a_home_without_a_run_is_moved_too(home: Path, tmp_path: Path, contents: RunContents) -> None:
    settings = Settings(home=home)
    experiment_id(client(settings), settings)  # as `make up` of the version before has made it
    there = home.rename(tmp_path / "there")
    run_id = with_a_champion(there, contents)
    assert (there / "artifacts" / run_id).is_dir()
    assert not home.exists()


def test_a_working_directory_of_any_name_is_no_part_of_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, home = tmp_path / "'it' [\"is\"] :here%20 ?#", tmp_path / MARKS
    here.mkdir()
    monkeypatch.chdir(here)
    assert len(client(Settings(home=home)).search_experiments()) == 1
    assert str(here) not in stored(home)
    assert f"{home}/artifacts/0".replace("'", "''") in stored(home)


def test_a_database_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that becomes full in the middle of its creation must not leave one that MLflow cannot use."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    settings = Settings(home=tmp_path / "home")
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "_create_default_experiment", full)
        with pytest.raises(MlflowException, match="disk is full"):
            client(settings)
    assert list(settings.home.iterdir()) == []
    assert len(client(settings).search_experiments()) == 1
    assert [path.name for path in settings.home.iterdir()] == ["mlflow.db"]


def test_locations_that_somebody_has_chosen_elsewhere_stay(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "share" / "artifacts"
    elsewhere.mkdir(parents=True)
    mlflow = client(Settings(home=home))
    mlflow.create_experiment(Settings().tracking.experiment, str(elsewhere))
    there = home.rename(tmp_path / "there")
    opened(there)
    assert str(elsewhere) in stored(there)


def test_the_key_of_a_training_stays_when_the_home_moves(home: Path, tmp_path: Path) -> None:
    opened(home)
    key = training_key("photos", Settings(home=home))
    there = Settings(home=home.rename(tmp_path / "there"))
    opened(there.home)
    assert training_key("photos", as_first_used(there)) == key != training_key("photos", there)


ANOTHER = """
import sys
from pathlib import Path
from car_damage.platform import Target
from car_damage.settings import Settings

home = Target(Settings(home=Path(sys.argv[1]))).home
print(home.earlier, flush=True)
input()
"""


def another(home: Path) -> "subprocess.Popen[str]":
    """Another process, which opens the home at this path, tells from where it came, and uses it until its input ends."""
    return subprocess.Popen([sys.executable, "-c", ANOTHER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Another process uses the home at this path."""
    with another(home) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "None\n"
        yield
        process.kill()


def test_a_home_that_is_in_use_at_its_earlier_path_is_refused_in_one_sentence(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "PATIENCE", 0.3)
    with in_use(home):
        there = home.rename(tmp_path / "there")
        with pytest.raises(Terminal, match=f"{there} was last used as {home}, and another process still uses it: end that process") as told:
            opened(there)
        assert "\n" not in str(told.value)
        assert noted(there) == Note(path=home, first=home)
    opened(there)
    assert noted(there) == Note(path=there, first=home)


def test_a_link_to_a_home_that_is_in_use_is_as_good_as_its_path(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(home)
    with in_use(home):
        opened(link)
        assert noted(link) == Note(path=home, first=home)
    opened(link)
    assert noted(link) == Note(path=link, first=home)


def test_a_home_that_several_processes_open_at_once_is_brought_here_once(home: Path, tmp_path: Path, contents: RunContents) -> None:
    run_id = with_a_champion(home, contents)
    there = home.rename(tmp_path / "there")
    several = [another(there) for _ in range(4)]
    told = [process.communicate("\n", timeout=120)[0] for process in several]
    assert sorted(told) == sorted([f"{home}\n", *["None\n"] * 3])
    is_whole(there, home, run_id, tmp_path / "fetched")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "path": 3, "first": "/"}'])
def test_a_note_that_cannot_be_read_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / NOTE).write_text(text)
    with pytest.raises(Terminal, match=r"home\.json cannot be read .*: remove it"):
        opened(tmp_path)
    (tmp_path / NOTE).write_text('{"format": 2}')
    with pytest.raises(Terminal, match="has the format 2, and this version reads 1: use the version that wrote it"):
        opened(tmp_path)


def test_a_home_that_cannot_be_made_or_has_no_room_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SettingsError, match=r"the home folder .*/file/home cannot be used: .*; make room, give access, or set home to another"
    ):
        opened(tmp_path / "file" / "home")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(Unavailable, match="No space left on device"):
        opened(tmp_path)
