r"""Files of this machine. A folder is listed completely, or an error is raised.

Files are regular files and links to them. Names that start with `_` or `.` are skipped, including everything below such a
folder. Links to folders are followed, except back into a folder that contains the link. A dangling link is listed as a
file: reading it fails, so a person learns about it. Pipes, sockets and devices are not files.

A path is text everywhere else (tables store UTF-8), but a name on disk is bytes. A byte that is not UTF-8 is
written `\xNN` in the path, and `Folder.read` finds the file by that path.
"""

import errno
import math
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

from car_damage.errors import FileMissing, SettingsError, Unavailable
from car_damage.machine import absolute
from car_damage.ports import LEFT, File

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DRAFT = re.compile(r"\..+\.[0-9a-f]{32}")
_FILES = (stat.S_IFREG, stat.S_IFLNK)
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""Errors of storage without hard links, or without renaming."""
_EARLIEST, _LATEST = -62_135_596_800_000, 253_402_300_799_999
"""Milliseconds of the years 1 and 9999. File systems allow times outside of them, Python and Spark do not."""


class Folder:
    """The port `Files` on this machine's file system.

    What killed writers have left beside a file goes when it is written again, or another one there, but not twice in an hour.
    """

    _swept: ClassVar[dict[Path, float]] = {}
    """Folder -> when this process has last looked there for drafts, by its own clock."""

    def list(self, folder: str) -> Iterator[File]:
        for path, size, modified in walk(folder):
            yield File(path, size, EPOCH + timedelta(milliseconds=modified))

    def read(self, path: str) -> bytes:
        try:
            try:
                return _read(path)
            except FileNotFoundError:
                if "\\x" not in path:
                    raise
                return _read(re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), os.fsencode(path)))
        except FileNotFoundError as error:
            raise FileMissing(f"{path} does not exist, or was removed since it was listed") from error
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from error

    def write_once(self, path: str, data: bytes) -> None:
        """See the port. A kill leaves nothing, or a file whose name starts with a dot.

        On storage without hard links, such as a mounted volume, a kill may leave half a file.
        """
        target = Path(path)
        with self._beside(target, data) as part:
            try:
                os.link(part, target)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with target.open("xb") as file:
                    file.write(data)

    def replace(self, path: str, data: bytes) -> None:
        """See the port. A kill leaves the file of before, and perhaps one whose name starts with a dot.

        On storage without renaming, such as a mounted volume, a kill may leave half a file.
        """
        target = Path(path)
        with self._beside(target, data) as part:
            try:
                part.replace(target)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                target.write_bytes(data)

    def remove(self, path: str) -> None:
        try:
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                shutil.rmtree(path)
            else:
                Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"{path} cannot be removed: {error.strerror or error}") from error

    def drafts(self, folder: str) -> Iterator[File]:
        try:
            for path in sorted(Path(folder).rglob(".*")):
                if is_draft(path.name):
                    with suppress(FileNotFoundError):  # its writer has ended
                        found = path.stat()
                        yield File(utf8(str(path)), found.st_size, EPOCH + timedelta(seconds=found.st_mtime))
        except OSError as error:
            raise Unavailable(f"the folder {folder} cannot be listed: {error.strerror or error}") from error

    @contextmanager
    def _beside(self, target: Path, data: bytes) -> Iterator[Path]:
        """A file with this content beside the target, which listings skip, as long as the block lasts."""
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            self._sweep(part)
            yield part
        except FileExistsError:
            raise
        except OSError as error:
            raise Unavailable(f"{target} cannot be written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _sweep(self, part: Path) -> None:
        """Remove the drafts beside this one that are so much older that their writers were killed."""
        at, folder = time.monotonic(), part.parent
        if at < self._swept.get(folder, -math.inf) + LEFT.total_seconds():
            return
        self._swept[folder] = at
        written = part.stat().st_mtime  # by the clock of the file system
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if is_draft(entry.name) and entry.stat().st_mtime < written - LEFT.total_seconds():
                    Path(entry.path).unlink()


def is_draft(name: str) -> bool:
    """Whether this is the name of a file that is being written, or was when its writer was killed."""
    return _DRAFT.fullmatch(name) is not None


def walk(folder: str) -> Iterator[tuple[str, int, int]]:
    """Every file below a folder as path, size in bytes and modified time in whole milliseconds since 1970, UTC.

    Raises:
        SettingsError: the folder does not exist.
        Unavailable: the folder, or a folder below it, cannot be listed. Discard the files that were yielded before.
    """
    root = absolute(folder)
    if not os.path.isdir(root):  # noqa: PTH112
        raise SettingsError(f"the folder {root} does not exist or is not a folder: mount it, create it, or set landing.folder")
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        here, above = waiting.pop()
        try:
            found = os.stat(here)  # noqa: PTH116
            if (found.st_dev, found.st_ino) in above:
                continue
            above |= {(found.st_dev, found.st_ino)}
            prefix = utf8(here).rstrip("/") + "/"
            with os.scandir(here) as entries:
                for entry in entries:
                    name = entry.name
                    if name[0] in "._":
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, above))
                        continue
                    try:
                        found = entry.stat()
                    except OSError as error:
                        dangling = _dangling(entry, error)
                        if dangling is None:
                            continue
                        found = dangling
                    kind = stat.S_IFMT(found.st_mode)
                    if kind in _FILES:
                        modified = min(max(found.st_mtime_ns // 1_000_000, _EARLIEST), _LATEST)
                        yield prefix + (name if name.isascii() else utf8(name)), found.st_size, modified
                    elif kind == stat.S_IFDIR:
                        waiting.append((entry.path, above))
        except OSError as error:
            raise Unavailable(
                f"the folder {here!r} cannot be listed: {error.strerror or error}; an incomplete listing is not used"
            ) from error


def _dangling(entry: os.DirEntry[str], error: OSError) -> os.stat_result | None:
    """The status of a dangling link itself; None for a file that was removed after its folder was opened."""
    if entry.is_symlink():
        return entry.stat(follow_symlinks=False)
    if isinstance(error, FileNotFoundError):
        return None
    raise error


def utf8(name: str) -> str:
    r"""A name of the file system as valid UTF-8: other bytes become `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _read(path: str | bytes) -> bytes:
    with open(path, "rb", buffering=0, opener=_open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path!r} is not a regular file")
        return file.readall()


def _open(path: str, flags: int) -> int:
    """Open without blocking: a pipe may have replaced the file since the listing."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
