"""A mount for Python only: the files in $TWIN_VOLUMES appear below /Volumes/, in this process and in those that Spark starts.

Python imports this module at the start of every process that has it on its path. As on a cluster, a file on a volume is
written once, from front to back: appending, changing in place, renaming and linking fail.
https://docs.databricks.com/aws/en/files/volumes
"""

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

ROOT = "/Volumes/"
STORAGE = os.environ.get("TWIN_VOLUMES", "")


def there(path: Any) -> Any:
    """The local path of a path on a volume; any other path as it is."""
    if isinstance(path, int):
        return path
    text = os.fspath(path)
    text = os.fsdecode(text) if isinstance(text, bytes) else text
    return f"{STORAGE}/{text[len(ROOT) :]}" if text.startswith(ROOT) else path


class Entry:
    """An os.DirEntry whose path is the one below /Volumes/."""

    def __init__(self, entry: "os.DirEntry[str]", folder: str) -> None:
        self._entry, self.name = entry, entry.name
        self.path = os.path.join(folder, entry.name)  # noqa: PTH118 - as os.scandir builds it

    def __fspath__(self) -> str:
        return self.path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)


class Entries:
    """The result of os.scandir for a folder on a volume."""

    def __init__(self, folder: str) -> None:
        self._folder, self._entries = folder, _scandir(there(folder))

    def __enter__(self) -> "Entries":
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.close()

    def __iter__(self) -> Iterator[Entry]:
        return (Entry(entry, self._folder) for entry in self._entries)

    def close(self) -> None:
        self._entries.close()


_scandir, _open = os.scandir, io.open


def scandir(path: Any = ".") -> Any:
    moved = there(path)
    return _scandir(path) if moved is path else Entries(os.fspath(path))


def open_there(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
    moved = there(file)
    if moved is not file and set(mode) & set("a+"):
        raise OSError(errno.ENOTSUP, "Operation not supported", file)
    return _open(moved, mode, *args, **kwargs)


def _mounted(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def on_a_volume(path: Any, *args: Any, **kwargs: Any) -> Any:
        return function(there(path), *args, **kwargs)

    return on_a_volume


def _refused(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def on_a_volume(source: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        if there(source) is not source or there(target) is not target:
            raise OSError(errno.ENOTSUP, "Operation not supported", target)
        return function(source, target, *args, **kwargs)

    return on_a_volume


if STORAGE:
    for _name in ("stat", "lstat", "open", "listdir", "mkdir", "unlink", "remove", "rmdir", "access", "utime"):
        setattr(os, _name, _mounted(getattr(os, _name)))
    for _name in ("link", "rename", "replace", "symlink"):
        setattr(os, _name, _refused(getattr(os, _name)))
    os.scandir = scandir
    builtins.open = io.open = open_there  # type: ignore[assignment]
