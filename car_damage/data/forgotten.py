"""Photos that the service must not know: a table keeps a mark for each, so that no file of this content is taken up again.

A mark is a hash of the photo's hash. Whoever has the photo can compute it, and nobody else can tell which photo it is. So neither
tables nor requests nor reports hold the hash of a photo that was forgotten.

Pure: Arrow tables in, Arrow tables out.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

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


@dataclass(frozen=True)
class Forgotten:
    """A photo that was, or is being forgotten."""

    mark: str
    by: str
    noted: datetime
    found: tuple[Trace, ...] = ()
    """Of all calls together. A call that was killed has noted what it was about to remove."""


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
    found = json.dumps([asdict(trace) for trace in photo.found])
    return pa.Table.from_pylist([{"mark": photo.mark, "by": photo.by, "noted": photo.noted, "found": found}], schema=FORGOTTEN)


def photo_of(rows: pa.Table, mark: str) -> Forgotten | None:
    """The photo with this mark, from rows with the columns of `FORGOTTEN`; None if it was never forgotten."""
    found = [one for one in rows.to_pylist() if one["mark"] == mark]
    if not found:
        return None
    traces = tuple(Trace(**trace) for trace in json.loads(found[0]["found"] or "[]"))
    return Forgotten(mark, found[0]["by"] or "", found[0]["noted"], traces)


def together(noted: Sequence[Trace], found: Sequence[Trace]) -> tuple[Trace, ...]:
    """What was noted before, and what was found now, each once: a second call finds what the first has noted and not yet removed."""
    first: dict[tuple[str, str, str], Trace] = {}
    for trace in (*noted, *found):
        first.setdefault((trace.place, trace.what, trace.run), trace)
    return tuple(first.values())
