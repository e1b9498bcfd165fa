"""What this machine has: its cores, and scratch folders.

A scratch folder is removed at the end of its block. A process holds a lock on its folder, and the operating system releases it
however the process ends; so the next scratch folder that is made removes those that killed processes have left.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType

_PREFIX = "car-damage."
_YOUNG = 60.0
"""Seconds in which a folder without a lock may be one that is only just being made."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Scratch:
    """A folder of the system's temporary folder. A context manager, whose value is the folder's path."""

    def __init__(self, name: str) -> None:
        """Make it, and remove those that killed processes have left.

        Args:
            name: what it is for, as a part of its name.
        """
        _sweep(Path(tempfile.gettempdir()))
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{name}.")
        self.path = Path(self._folder.name)
        self._lock = _locked(self.path)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove it. A second time does nothing."""
        self._folder.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _sweep(folder: Path) -> None:
    """Remove what has our prefix, belongs to this user, and is locked by nobody."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else has just removed it
            found = path.lstat()
            if found.st_uid != os.getuid() or time.time() - found.st_ctime < _YOUNG:
                continue
            lock = _locked(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where another process does, or the file system has no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
