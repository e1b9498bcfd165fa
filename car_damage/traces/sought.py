"""The photo that is sought, and what a place does for it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.pipeline import Trace

_SHA256 = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_BLOT = b"forgotten"


@dataclass
class SoughtPhoto:
    """A photo by its content."""

    holds: Callable[[str], bool]
    """Whether a sha256, in hexadecimal, is the photo's."""
    paths: set[str] = field(default_factory=set)
    """Where the tables say that the photo lies, or lay."""

    def among(self, hashes: pa.ChunkedArray) -> pa.ChunkedArray:
        """Whether each hash, or null, is the photo's."""
        found = [sha256 for sha256 in pc.unique(hashes).drop_null().to_pylist() if self.holds(sha256)]
        return pc.is_in(hashes, value_set=pa.array(found, pa.string()))

    def lies_at(self, paths: pa.ChunkedArray) -> pa.ChunkedArray:
        """Whether the photo lies, or lay, at each path."""
        return pc.is_in(paths, value_set=pa.array(sorted(self.paths), pa.string()))

    def named_in(self, data: bytes) -> bool:
        """Whether a file has the photo's hash or one of its paths in its text."""
        if any(self.holds(found.decode()) for found in set(_SHA256.findall(data))):
            return True
        return any(path.encode() in data for path in self.paths)

    def blotted(self, data: bytes, *, same_length: bool = False) -> bytes:
        """A text without the photo's hash and paths."""

        def blot(text: bytes) -> bytes:
            return _BLOT.ljust(len(text), b".")[: len(text)] if same_length else _BLOT

        data = _SHA256.sub(lambda found: blot(found[0]) if self.holds(found[0].decode()) else found[0], data)
        for path in sorted(self.paths, key=len, reverse=True):
            data = data.replace(path.encode(), blot(path.encode()))
        return data


def unreadable(place: str, run: str = "") -> Trace:
    """The trace of a file that may have the photo."""
    stays = "it cannot be read: look whether it has the photo, remove it if so or if nobody needs it, and forget the photo again"
    return Trace(place, "a file that cannot be read", stays=stays, run=run, again=True)


class Place(Protocol):
    """A place where a photo leaves traces. A call of `remove` after a killed one removes what is left."""

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        """What is there of the photo."""

    def remove(self, sought: SoughtPhoto) -> None:
        """Remove it, but for what has a reason to stay."""
