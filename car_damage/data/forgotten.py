"""Photos that the service must not know: a table keeps a mark for each, so that no file of this content is taken up again.

A mark is a hash of the photo's hash. Whoever has the photo can compute it, and nobody else can tell which photo it is. So neither
tables nor requests nor reports hold the hash of a photo that was forgotten.

Pure: Arrow tables in, Arrow tables out.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import described
from car_damage.data.photos.ledger import INSTANT
from car_damage.pipeline import Trace

FORGOTTEN = described.table(
    "Photos that were forgotten: a mark by which the service knows them again, and what was removed. Neither photo nor hash is here.",
    [
        described.column("mark", pa.string(), "SHA-256 of a text with the photo's SHA-256: the key.", nullable=False),
        described.column("by", pa.string(), "Who had it forgotten."),
        described.column("noted", INSTANT, "When.", nullable=False),
        described.column("found", pa.string(), "What was found where, as JSON."),
    ],
)
KEY = ("mark",)
FILE = "the file, which is not ours"
"""What a trace says of a file that only whoever owns its folder may remove."""
_ENDED = "ended"
"""In JSON: whether the call has ended that found a trace. Without it, it has."""


@dataclass(frozen=True)
class Forgotten:
    """A photo that was, or is being forgotten."""

    mark: str
    by: str
    noted: datetime
    ended: tuple[Trace, ...] = ()
    """What the calls that have ended found."""
    begun: tuple[Trace, ...] = ()
    """What a call has found that has not ended. If it was killed, it has noted what it was about to remove, and the next call goes on."""

    @property
    def found(self) -> tuple[Trace, ...]:
        """Of all calls together. What stays is as the latest call has found it."""
        return _added(self.ended, self.begun)

    def with_begun(self, found: Iterable[Trace]) -> "Forgotten":
        """With what the call has found: each once, because the call after a killed one finds what that one has noted and not removed."""
        first = {_key(trace): trace for trace in self.begun}
        for trace in found:
            if trace.stays or _key(trace) not in first:
                first[_key(trace)] = trace
        return replace(self, begun=tuple(first.values()))

    def looked_at_again(self, lasting: Collection[str]) -> "Forgotten":
        """Without what a person may have ended since; this call finds it, if not.

        Args:
            lasting: places with something that a person was to remove, and has not. What was removed from other places is removed.
        """
        return replace(self, ended=_lasting(self.ended, lasting), begun=_lasting(self.begun, lasting))

    def at_its_end(self) -> "Forgotten":
        """After a call has done everything."""
        return replace(self, ended=self.found, begun=())


def mark_of(sha256: str) -> str:
    """The mark of a photo, in hexadecimal."""
    return hashlib.sha256(f"car-damage forgot {sha256}".encode()).hexdigest()


def marked(hashes: pa.ChunkedArray, marks: Collection[str]) -> pa.ChunkedArray:
    """Whether each hash, or null, is that of a forgotten photo: one boolean each."""
    if not marks:
        return pc.and_(pc.is_valid(hashes), False)
    known = [sha256 for sha256 in pc.unique(hashes).drop_null().to_pylist() if mark_of(sha256) in marks]
    return pc.is_in(hashes, value_set=pa.array(known, pa.string()))


def row(photo: Forgotten) -> pa.Table:
    """The row of a photo."""
    begun = [asdict(trace) | {_ENDED: False} for trace in photo.begun]
    found = json.dumps([*map(asdict, photo.ended), *begun])
    return pa.Table.from_pylist([{"mark": photo.mark, "by": photo.by, "noted": photo.noted, "found": found}], schema=FORGOTTEN)


def photo_of(rows: pa.Table, mark: str) -> Forgotten | None:
    """The photo with this mark, from rows with the columns of `FORGOTTEN`; None if it was never forgotten."""
    return next((photo for photo in photos_of(rows) if photo.mark == mark), None)


def photos_of(rows: pa.Table) -> list[Forgotten]:
    """All photos of rows with the columns of `FORGOTTEN`."""
    return [_photo(one) for one in rows.to_pylist()]


def _photo(one: dict[str, Any]) -> Forgotten:
    calls: dict[bool, list[Trace]] = {True: [], False: []}
    for trace in json.loads(one["found"] or "[]"):
        calls[trace.pop(_ENDED, True)].append(Trace(**trace))
    return Forgotten(one["mark"], one["by"] or "", one["noted"], tuple(calls[True]), tuple(calls[False]))


def _key(trace: Trace) -> tuple[str, str, str]:
    return trace.place, trace.what, trace.run


def _added(ended: Sequence[Trace], begun: Sequence[Trace]) -> tuple[Trace, ...]:
    """All traces, with the numbers of what was removed by several calls added up."""
    whole = {_key(trace): trace for trace in ended}
    for trace in begun:
        before = whole.get(_key(trace))
        removed = before is not None and not (before.stays or trace.stays)
        whole[_key(trace)] = replace(trace, items=before.items + trace.items) if before is not None and removed else trace
    return tuple(whole.values())


def _lasting(traces: Sequence[Trace], lasting: Collection[str]) -> tuple[Trace, ...]:
    kept = (trace for trace in traces if trace.what == FILE or not trace.again)
    return tuple(replace(trace, stays="", again=False) if trace.again and trace.place not in lasting else trace for trace in kept)
