"""A copy of a home folder that is in use, such that every run in progress looks as if it had been killed at that moment.

What is read first is older than what is read later: a database of MLflow names no files that were written after it, and the log of a table
no version whose files the copy lacks. A run that was killed is continued by the next one, and so is the copy.

What is removed meanwhile, by tidying or forgetting, the copy may lack while its database still names it: a training that was to go, or a
picture of a photo. Nothing that is live is removed so.
"""

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from car_damage.adapters.tables.log import Log
from car_damage.errors import RequestRefused, Unavailable

FIRST, LAST = ("endpoint", "requests", "mlflow.db", "tables"), ("corrections",)
"""What is copied before the rest, in this order, and after it. The endpoint may serve what is not the champion any more; a run puts that
right. A file of requests becomes rows of a table, and what a person says of a kept photo a word in `corrections`: both may be in the copy
twice, as in a home after a kill."""
TRIES = 10
"""Times that a table is copied while runs commit to it."""
_HINT = "_last_checkpoint"
_OF_A_DATABASE = ("-wal", "-shm", "-journal")
_SQLITE = b"SQLite format 3\0"


def back_up(home: Path, into: Path) -> int:
    """Copy a home folder.

    Args:
        home: it may be in use.
        into: a folder that does not exist yet, and not in the home folder. It may be used as a home folder afterwards, at any path.

    Returns:
        How many bytes the copy has.

    The copy has its name when it is complete; before, it is `<into>.part`.

    Raises:
        RequestRefused: there is no home folder, or `into` exists, or lies in it, or a copy of that name was killed.
        Unavailable: runs write to a table all the time, a file cannot be read, or the copy cannot be written.
    """
    if not home.is_dir():
        raise RequestRefused(f"there is no home folder at {home}")
    if into.exists() or into.resolve().is_relative_to(home.resolve()):
        raise RequestRefused(f"{into} exists, or lies in the home folder: name a folder that is not there yet")
    part = into.with_name(f"{into.name}.part")
    if part.exists():
        raise RequestRefused(f"{part} is there, perhaps of a backup that was killed: remove it, or name another folder")
    try:
        _copy_home(home, part)
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        part.rename(into)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"{home} cannot be copied to {into}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return size


def _copy_home(home: Path, into: Path) -> None:
    into.mkdir(mode=0o700, parents=True)
    others = sorted(path.name for path in home.iterdir() if path.name not in {*FIRST, *LAST})
    for name in (*FIRST, *others, *LAST):
        if name == "tables":
            for log in sorted((home / name).rglob("_delta_log")):
                _table(log.parent, into / log.parent.relative_to(home))
        elif (home / name).exists():
            _copy(home / name, into / name)


def _table(table: Path, into: Path) -> None:
    """The log before the files. Files of the latest version stay as long as no later one is committed.

    The log's hint at a checkpoint is not needed, and may be later than the files beside it.
    """
    for _ in range(TRIES):
        shutil.rmtree(into, ignore_errors=True)
        before = _log_of(table)
        _copy(table / "_delta_log", into / "_delta_log")
        (into / "_delta_log" / _HINT).unlink(missing_ok=True)
        for path in sorted(table.iterdir()):
            if path.name != "_delta_log":
                _copy(path, into / path.name)
        copied = Log(into)
        if _log_of(table) == before and copied.holds(copied.latest):
            return
    raise Unavailable(f"the table at {table} was written to {TRIES} times while it was copied: try again later")


def _log_of(table: Path) -> set[tuple[str, int, int]]:
    """Name, size and time of each file of its log, but for the hint."""
    found = set()
    for file in (table / "_delta_log").iterdir():
        with suppress(FileNotFoundError):
            about = file.stat()
            found.add((file.name, about.st_size, about.st_mtime_ns))
    return {one for one in found if one[0] != _HINT}


def _copy(path: Path, into: Path) -> None:
    for file, target in _files(path, into):
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # it was removed since it was listed
            if file.suffix == ".db" and _is_database(file):
                _database(file, target)
            elif not file.name.endswith(tuple(f".db{end}" for end in _OF_A_DATABASE)):
                shutil.copy2(file, target)


def _files(path: Path, into: Path) -> Iterator[tuple[Path, Path]]:
    """Every regular file, with where it goes. Sockets and pipes belong to processes."""
    for file in (path, *sorted(path.rglob("*"))):
        with suppress(FileNotFoundError):
            if stat.S_ISREG(file.stat().st_mode):
                yield file, into / file.relative_to(path)


def _is_database(file: Path) -> bool:
    with file.open("rb") as start:
        return start.read(len(_SQLITE)) == _SQLITE


def _database(file: Path, target: Path) -> None:
    """A database as one transaction sees it."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
