r"""Files of this machine: a folder that is only ever read, listed completely or not at all.

What counts as a file: anything regular, or a link to it. Names that start with `_` or `.` are skipped, folders
with all that is below them. Links to folders are followed, but not back into a folder that they lie in. A link
that leads nowhere is listed all the same: reading it fails, and so it is reported rather than lost. Pipes,
sockets and devices are no files.

A path is text everywhere else (tables hold UTF-8), while a name on disk is bytes. A byte that is not UTF-8 is
written `\xNN` in the path, and `Folder.read` finds the file again by it.
"""

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from car_damage.errors import FileMissing, SettingsError, Unavailable
from car_damage.ports import File

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FILES = (stat.S_IFREG, stat.S_IFLNK)
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What storage says that has no hard links."""
_EARLIEST, _LATEST = -62_135_596_800_000, 253_402_300_799_999
"""Milliseconds of the years 1 and 9999: times beyond them exist on disk, but neither in Python nor in Spark."""


class Folder:
    """The port `Files` on this machine's file system."""

    def list(self, folder: str) -> Iterator[File]:
        """Every file below `folder`; see `walk` for the errors."""
        for path, size, modified in walk(folder):
            yield File(path, size, EPOCH + timedelta(milliseconds=modified))

    def read(self, path: str) -> bytes:
        try:
            return _read(path)
        except FileNotFoundError as error:
            if "\\x" not in path:
                raise FileMissing(f"{path} is not there (any more)") from error
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from error
        try:
            return _read(re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), os.fsencode(path)))
        except FileNotFoundError as error:
            raise FileMissing(f"{path} is not there (any more)") from error
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from error

    def write_once(self, path: str, data: bytes) -> None:
        """Create a file whole: a kill leaves nothing, or a file whose name starts with a dot.

        On storage without hard links, such as a mounted volume, a kill may leave half a file.

        Raises:
            FileExistsError: there is one, and it stays as it is.
            Unavailable: the file system refused.
        """
        target = Path(path)
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            try:
                os.link(part, target)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with target.open("xb") as file:
                    file.write(data)
        except FileExistsError:
            raise
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def replace(self, path: str, data: bytes) -> None:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(data)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror or error}") from error


def walk(folder: str) -> Iterator[tuple[str, int, int]]:
    """Every file below a folder as path, size in bytes and modified time in whole milliseconds since 1970, UTC.

    Raises:
        SettingsError: the folder is not there.
        Unavailable: it, or any folder below it, cannot be listed. What was yielded before is then no listing.
    """
    root = os.path.abspath(os.path.expanduser(folder))  # noqa: PTH100, PTH111 - paths stay as they are spelt, links included
    if not os.path.isdir(root):  # noqa: PTH112
        raise SettingsError(f"the folder {root} does not exist or is no folder: mount it, create it, or set landing.folder")
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
    """A link that leads nowhere, as itself; None for a file that was removed since its folder was opened."""
    if entry.is_symlink():
        return entry.stat(follow_symlinks=False)
    if isinstance(error, FileNotFoundError):
        return None
    raise error


def utf8(name: str) -> str:
    r"""A name of the file system as text that UTF-8 can hold: other bytes become `\xNN`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _read(path: str | bytes) -> bytes:
    with open(path, "rb", buffering=0, opener=_open) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path!r} is no regular file")
        return file.readall()


def _open(path: str, flags: int) -> int:
    """A pipe that took the file's place since the listing must not be waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
