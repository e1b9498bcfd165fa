"""Folders of ours, which are made with their first file, and whose files are written once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Generic, TypeVar

from car_damage.errors import FileMissing, SettingsError
from car_damage.ports import File, Files

T = TypeVar("T")

_AT_ONCE = 16
"""Files that are read at the same time. Each one on a volume is a download; databricks-sdk keeps 20 connections."""
_REMEMBERED = 1 << 14
"""Files whose content is remembered, at most: a few kB each."""


def listed(files: Files, folder: str) -> list[File]:
    """The files of a folder of ours; none where it is not there yet. Raises Unavailable."""
    try:
        return list(files.list(folder))
    except SettingsError:
        return []


class Contents(Generic[T]):
    """What files say that are written once: a file that was read whole is not read again.

    Args:
        files: reads them.
        parse: path and bytes -> what the file says. A ValueError means that it is no such file, or is being written.
    """

    def __init__(self, files: Files, parse: Callable[[str, bytes], T]) -> None:
        self._content = lru_cache(_REMEMBERED)(lambda file: parse(file.path, files.read(file.path)))  # an error is not remembered

    def of(self, wanted: Sequence[File]) -> dict[str, T]:
        """Path -> what the file says, without those that say nothing or are gone.

        Raises:
            Unavailable: a file cannot be read.
        """
        if not wanted:
            return {}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="contents") as pool:
            found = zip(wanted, pool.map(self._whole, wanted), strict=True)
            return {file.path: content for file, content in found if content is not None}

    def _whole(self, file: File) -> T | None:
        try:
            return self._content(file)
        except (ValueError, FileMissing):
            return None
