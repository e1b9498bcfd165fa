"""The home folder, which may be opened at any path: after a move, as a copy, or mounted elsewhere.

MLflow's database and the tables hold absolute paths. So the home folder notes its own path, and the first process that opens it at
another one rewrites them. Every process that uses the home locks the folder itself until it ends. The lock belongs to the folder and
not to its path: a home that is still used at its earlier path is not rewritten, and a copy of it is.
"""

import contextlib
import errno
import fcntl
import json
import os
import random
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from car_damage.errors import SettingsError, Terminal, Unavailable
from car_damage.machine import write_whole

NOTE = "home.json"
FORMAT = 1
"""Of the note. Raise it when an earlier version could not read what this one writes."""
PATIENCE = 10.0
"""Seconds to wait for a process that rewrites the paths, or still uses the home at its earlier path."""
_MAY_PASS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True)
class Note:
    """What a home folder notes about itself."""

    path: Path
    """At which its contents were last used."""
    first: Path
    """At which they were used first. What must not change with the path, such as the key of a training, holds this one."""


class OpenHome:
    """A home folder that is in use, until this process ends or this object is gone."""

    def __init__(self, path: Path, lock: int, earlier: Path | None) -> None:
        self.path, self.earlier = path, earlier
        """earlier: the path that this process has rewritten in the home's contents; None if it was this one."""
        weakref.finalize(self, os.close, lock)


def open_home(home: Path, unnoted: Callable[[], Path | None], move: Callable[[Path], None]) -> OpenHome:
    """Use the home folder at this path, which is created if it does not exist.

    Args:
        home: its path.
        unnoted: finds the path at which an earlier version has used it, which left no note; None: this one.
        move: rewrites the stored paths that begin with an earlier path of the home. A call after a killed one ends its work.

    Raises:
        Terminal: another process uses it at another path, or the note cannot be read.
        SettingsError, Unavailable: the folder cannot be created, read or written.
        CarDamageError: `move` raised it.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return OpenHome(home, lock, _settle(home, lock, unnoted, move))
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        kind = Unavailable if error.errno in _MAY_PASS else SettingsError
        raise kind(f"the home folder {home} cannot be used: {error}; make room, give access, or set home to another folder") from error


def _settle(home: Path, lock: int, unnoted: Callable[[], Path | None], move: Callable[[Path], None]) -> Path | None:
    """Rewrite the earlier path, if there is one, and return it. This process then shares the lock."""
    deadline = time.monotonic() + PATIENCE
    while True:
        _share(home, lock, deadline)
        if (note := noted(home)) is not None and note.path == home:
            return None
        if _locked(lock, fcntl.LOCK_EX):
            earlier = _alone(home, unnoted, move)
            _share(home, lock, time.monotonic() + PATIENCE)
            # Between the two locks another process may have opened it elsewhere.
            if (note := noted(home)) is None or note.path == home:
                return earlier
        if note is None or _is_same(note.path, home):  # what is stored leads here; a process that is alone will note the path
            _share(home, lock, deadline)
            return None
        if time.monotonic() > deadline:
            raise Terminal(
                f"the home folder {home} was last used as {note.path}, and another process still uses it: end that process first, or use "
                "that path"
            )
        _pause()


def _alone(home: Path, unnoted: Callable[[], Path | None], move: Callable[[Path], None]) -> Path | None:
    """Rewrite the earlier path and note this one, while nobody else uses the home."""
    note = noted(home)
    before = note.path if note is not None else unnoted() or home
    first = before if note is None else note.first
    if before != home:
        if note is None:  # a move that is killed on the way leaves nothing else by which the next process could find it
            _write(home, Note(before, first))
        move(before)
    with contextlib.suppress(OSError) if before == home else contextlib.nullcontext():  # a home that cannot be written may be read
        _write(home, Note(home, first))
    return before if before != home else None


def _write(home: Path, note: Note) -> None:
    write_whole(home / NOTE, json.dumps({"format": FORMAT, **{name: str(path) for name, path in asdict(note).items()}}))


def noted(home: Path) -> Note | None:
    """The note of a home folder; None where there is none.

    Raises:
        Terminal: it is damaged, or of a later version.
    """
    note = home / NOTE
    try:
        document = json.loads(note.read_text())
        if document["format"] != FORMAT:
            raise Terminal(f"{note} has the format {document['format']}, and this version reads {FORMAT}: use the version that wrote it")
        return Note(Path(document["path"]), Path(document["first"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Terminal(
            f"{note} cannot be read ({error}): remove it: the path is then looked up in MLflow's database, and the next run trains again"
        ) from error


def _is_same(one: Path, other: Path) -> bool:
    """Whether both paths lead to one folder: by a link, or a mount on this machine."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def _share(home: Path, lock: int, deadline: float) -> None:
    """Lock the folder together with others that use it at this path."""
    while not _locked(lock, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            raise Unavailable(f"another process is bringing the contents of {home} to another path: try again when it has ended")
        _pause()


def _locked(lock: int, kind: int) -> bool:
    """Whether the lock could be had. A file system without locks has nobody to wait for."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _pause() -> None:
    time.sleep(random.uniform(0.05, 0.2))  # noqa: S311 - spreads processes apart
