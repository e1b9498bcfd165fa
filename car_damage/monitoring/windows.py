"""The windows of the request log: stretches of time that are compared with the baseline, one after the other.

A window has a whole number of the setting's hours, and grows by these until it has enough rows. It ends only once late rows are in the
log. Where one ends the next begins, so every row is in one window, and a window that was written is never made again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from car_damage.data.photos.ledger import INSTANT


@dataclass(frozen=True)
class Window:
    """From `begins`, up to and without `ends`."""

    begins: datetime
    ends: datetime
    rows: pa.Table
    """Of the request log, those of the window."""


def closed(rows: pa.Table, after: datetime | None, until: datetime, hours: float, fewest: int) -> Iterator[Window]:
    """The windows that have ended, in order.

    Args:
        rows: of the request log, of one version, in any order; those before `after` are left out.
        after: where the last window ended. None: the first window begins with the first row.
        until: what was answered before is complete.
        hours: of a window, or of a part of one.
        fewest: rows of a window.
    """
    rows = rows.sort_by("answered")
    times = np.asarray(rows["answered"].cast(pa.int64()), np.int64)
    length, end = int(hours * 3600 * 1_000_000), _microseconds(until)
    if after is not None:
        first = int(np.searchsorted(times, _microseconds(after)))
        begins = _microseconds(after)
    elif len(times):
        first, begins = 0, int(times[0]) // length * length
    else:
        return
    while first + fewest <= len(times):
        ends = begins + ((int(times[first + fewest - 1]) - begins) // length + 1) * length
        if ends > end:
            return
        last = int(np.searchsorted(times, ends))
        yield Window(_instant(begins), _instant(ends), rows.slice(first, last - first))
        first, begins = last, ends


def alarm(before: Sequence[frozenset[str]], speaks: frozenset[str], needed: int, of: int) -> frozenset[str]:
    """What rings: what speaks in this window, and in at least `needed` of the last `of` windows, this one included.

    Args:
        before: what spoke in earlier windows, oldest first.
        speaks: in this window.
        needed: windows that must speak of the same.
        of: windows that are looked at.
    """
    recent = [*before, speaks][-of:]
    return frozenset(name for name in speaks if sum(name in one for one in recent) >= needed)


def _microseconds(at: datetime) -> int:
    return int(pa.scalar(at, INSTANT).cast(pa.int64()).as_py())


def _instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
