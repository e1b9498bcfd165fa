"""Resources of this machine: its cores, paths, scratch folders, and what leaves it.

A scratch folder is removed at the end of its block. A process locks its folder, and the operating system releases the lock
when the process ends, even when it is killed. So before a scratch folder is created, those of killed processes are removed.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

from car_damage.errors import Terminal

LOOPBACK = ("127.0.0.1", "localhost")
"""Names of this machine, to itself."""
SHORTEST_SECRET = 32
"""Characters of a secret that nobody can guess: 192 random bits in base64."""
LONGEST_LOG = 8 << 20
"""Bytes of a log, after which it goes on in an empty file. The file of before keeps as many."""
_PREFIX = "car-damage."
_YOUNG = 60.0
"""Seconds. A folder younger than this may have no lock yet, so it is left alone."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def absolute(path: str) -> str:
    """A path from the root of the file system, with ~ as the home of the user, and without a slash at its end."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - links are not resolved


def keep_to_this_machine() -> None:
    """Set environment variables for this process and those that it starts: nothing that is meant for this machine goes to a proxy, and
    neither MLflow nor Prefect sends telemetry.
    """
    if any(name.lower().endswith("_proxy") and name.lower() != "no_proxy" for name in os.environ):
        names = ("no_proxy", "NO_PROXY")  # libraries read one or the other, and prefer the first
        hosts = [host.strip() for name in names for host in os.environ.get(name, "").split(",") if host.strip()]
        if "*" not in hosts:  # it counts only where it stands alone
            os.environ |= dict.fromkeys(names, ",".join(dict.fromkeys([*hosts, *LOOPBACK])))
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


def write_whole(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file that is the old one or the new one at every moment, also after a crash or on a full disk.

    Args:
        path: the file. One process at a time writes it.
        text: its contents.
        mode: permissions, from which the system takes those of its mask.
    """
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)  # of a killed process; its permissions would stay
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # otherwise a crash may bring the old file back
    finally:
        os.close(folder)


def secret(path: Path, create: bool = False) -> str:
    """The secret in a file that only its owner can read, and that is whole or not there.

    Args:
        path: the file.
        create: write the file with a new secret if it does not exist. Only one process at a time may do so.

    Raises:
        FileNotFoundError: there is no file, and `create` is False.
        Terminal: the file cannot be written, or the secret is not whole. An empty one would let everybody in.
    """
    if create and not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, secrets.token_urlsafe(SHORTEST_SECRET), 0o600)
        except OSError as error:
            raise Terminal(f"{path} cannot be written: {error}; free disk space or give access, then start again") from error
    text = path.read_text(errors="replace").strip()
    if len(text) < SHORTEST_SECRET:
        raise Terminal(
            f"the secret in {path} has {len(text)} characters, and {SHORTEST_SECRET} is the least: "
            "remove the file, and start the server again, which writes another one"
        )
    return text


def memory() -> int:
    """Bytes of memory of this machine, or of the container that this process runs in."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # of cgroups 2 and 1
        with contextlib.suppress(OSError, ValueError):  # there is no such file, or it says "max"
            most = min(most, int(Path(limit).read_text()))
    return most


def shorten(log: Path, keep: int = 0, longest: int = LONGEST_LOG) -> None:
    """If a log is longer than `longest` bytes, move what follows its first `keep` bytes to `.log.1`.

    Programs write to it meanwhile, and need not know: they have opened it for appending. A line that they write at this moment
    may be lost. On a full disk, everything that would be moved is.
    """
    with contextlib.suppress(FileNotFoundError), log.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size - keep <= longest:
            return
        file.seek(max(keep, size - longest))
        with contextlib.suppress(OSError):
            log.with_suffix(".log.1").write_bytes(file.read(longest))
        file.truncate(keep)


class Scratch:
    """A scratch folder in the system's temporary folder. As a context manager it returns the folder's path."""

    def __init__(self, name: str) -> None:
        """Create the folder, with its purpose in its name, and remove the folders of killed processes."""
        _sweep(Path(tempfile.gettempdir()))
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{name}.")
        self.path = Path(self._folder.name)
        self._lock = _locked(self.path)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder. A second call does nothing."""
        self._folder.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _sweep(folder: Path) -> None:
    """Remove the folders that have our prefix, belong to this user and have no lock."""
    for path in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another process has just removed it
            found = path.lstat()
            if found.st_uid != os.getuid() or time.time() - found.st_ctime < _YOUNG:
                continue
            lock = _locked(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another process holds it or the file system has no locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
