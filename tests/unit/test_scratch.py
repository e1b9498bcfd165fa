"""A scratch folder is deleted at the end of its block; a killed process's folder is deleted when the next one is made."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from car_damage.machine import Scratch

CHILD = """
import sys
from car_damage.machine import Scratch
with Scratch("child") as folder:
    (folder / "photos").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""
AN_HOUR = 3600.0


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder in place of the system's, for this test and the processes that it starts."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make other processes' folders look an hour old. This moves the clock, because a folder's change time cannot be set."""
    now = time.time
    monkeypatch.setattr("car_damage.machine.time.time", lambda: now() + AN_HOUR)


@contextlib.contextmanager
def elsewhere() -> Iterator[Path]:
    """A scratch folder of another process. The process is killed at the end of the block."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Path(process.stdout.readline().strip())
        finally:
            process.kill()


def fails() -> None:
    with Scratch("photos") as folder:
        (folder / "photos").write_bytes(b"x")
        raise RuntimeError


def test_a_scratch_folder_is_gone_after_its_block_also_when_the_block_fails(system: Path) -> None:
    with pytest.raises(RuntimeError):
        fails()
    assert list(system.iterdir()) == []


@pytest.mark.usefixtures("an_hour_later")
def test_the_folder_of_a_killed_process_goes_with_the_next_one() -> None:
    with elsewhere() as left:
        pass
    assert (left / "photos").exists()
    with Scratch("photos"):
        assert not left.exists()


@pytest.mark.usefixtures("an_hour_later")
def test_the_folder_of_a_living_process_stays() -> None:
    with elsewhere() as used, Scratch("photos"):
        assert (used / "photos").exists()


def test_a_folder_that_may_be_only_just_being_made_stays(system: Path) -> None:
    young = system / "car-damage.photos.abc"
    young.mkdir()
    with Scratch("photos"):
        assert young.exists()


@pytest.mark.usefixtures("an_hour_later")
def test_folders_and_files_of_others_stay(system: Path) -> None:
    other, file, link = system / "car-damage-tests", system / "car-damage.file", system / "car-damage.link"
    other.mkdir()
    file.touch()
    link.symlink_to(other)
    with Scratch("photos"):
        assert {path for path in system.iterdir() if not path.name.startswith("car-damage.photos.")} == {other, file, link}


@pytest.mark.usefixtures("an_hour_later")
def test_a_folder_of_another_user_stays(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = system / "car-damage.photos.abc"
    left.mkdir()
    mine = os.getuid()
    monkeypatch.setattr("os.getuid", lambda: mine + 1)
    with Scratch("photos"):
        assert left.exists()
