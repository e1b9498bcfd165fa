"""Finds photos that look alike: Hamming distance of 64-bit perceptual hashes, for 100,000 photos in seconds.

Two hashes that differ in at most k bits agree in at least one of any k + 1 bands of their bits (the pigeonhole
principle: k differences cannot touch k + 1 bands). So only hashes that share a band are compared, one bucket at a
time in numpy. Crowds of photos that all look alike (plain walls, black frames) would have too many pairs: `components`
stops comparing a photo once it belongs to a group, `touched` once its result is known.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Hashes: TypeAlias = npt.NDArray[np.uint64]
Indices: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.uint8]

_CELLS = 1 << 18
"""Comparisons at once: 2 MiB of differences, which fit into a core's cache."""
_CROWDED = 8
"""Neighbours per photo, on average, that make a bucket a crowd."""


def components(hashes: Hashes, bits: int) -> Indices:
    """Group hashes that are linked by steps of at most `bits` bits.

    Args:
        hashes: (n,) uint64, all different.
        bits: largest distance of a step.

    Returns:
        (n,) int64: for each hash the smallest index in its group.
    """
    groups = np.arange(len(hashes))
    # Joining looks at every hash, so the links of many buckets are joined at once: as many as are small beside the hashes.
    firsts, seconds, found = [groups[:0]], [groups[:0]], 0
    for bucket in _buckets(hashes, bits):
        first, second = _links(hashes[bucket], bits)
        firsts.append(bucket[first])
        seconds.append(bucket[second])
        found += len(first)
        if found > len(hashes) // 8:
            groups = _join(groups, np.concatenate(firsts), np.concatenate(seconds))
            firsts, seconds, found = [groups[:0]], [groups[:0]], 0
    return _join(groups, np.concatenate(firsts), np.concatenate(seconds))


def touched(hashes: Hashes, others: Hashes, flags: Flags, bits: int) -> Flags:
    """For each hash the union (bitwise or) of the flags of all `others` within `bits` bits.

    Args:
        hashes: (n,) uint64.
        others: (m,) uint64.
        flags: (m,) uint8.
        bits: largest distance.

    Returns:
        (n,) uint8.
    """
    found = np.zeros(len(hashes), np.uint8)
    for flag in np.unique(flags):
        flagged = others[flags == flag]
        open_ = np.ones(len(hashes), bool)
        for keys in _bands(bits):
            _touch(hashes, flagged, keys, open_, bits)
        found[~open_] |= flag
    return found


def in_two_splits(hashes: Hashes, flags: Flags, bits: int) -> int:
    """How many hashes are within `bits` bits of a hash with another flag. Each hash has one flag: (n,) uint8."""
    return int(np.count_nonzero(touched(hashes, hashes, flags, bits) & ~flags))


def unsigned(hashes: Any) -> Hashes:
    """The hashes of a column of bronze or silver, whose 64 bits are stored as a signed number."""
    return np.ascontiguousarray(np.asarray(hashes, dtype=np.int64)).view(np.uint64)


def near(hashes: Hashes, one: np.uint64, bits: int) -> npt.NDArray[np.bool_]:
    """Whether each of the hashes, (n,) uint64, is within `bits` bits of `one`."""
    return np.asarray(np.bitwise_count(hashes ^ one) <= bits)


def _touch(hashes: Hashes, others: Hashes, keys: Callable[[Hashes], Hashes], open_: npt.NDArray[np.bool_], bits: int) -> None:
    """Set `open_` to False for every hash that is near one of the others in the same bucket of one band."""
    left = np.flatnonzero(open_)
    if not len(left):
        return
    order, other_order = np.argsort(keys(hashes[left])), np.argsort(keys(others))
    left, others = left[order], others[other_order]
    values, starts = np.unique(keys(hashes[left]), return_index=True)
    ends = np.append(starts[1:], len(left))
    other_keys = keys(others)
    lows, highs = np.searchsorted(other_keys, values, "left"), np.searchsorted(other_keys, values, "right")
    for start, end, low, high in zip(starts, ends, lows, highs, strict=True):
        rest, at = left[start:end], low
        while at < high and len(rest):
            # A few others against all the rest: in a crowd these few are near almost every hash.
            upto = min(high, at + max(1, _CELLS // len(rest)))
            close = (np.bitwise_count(hashes[rest][:, None] ^ others[None, at:upto]) <= bits).any(axis=1)
            open_[rest[close]] = False
            rest, at = rest[~close], upto


def _bands(bits: int) -> list[Callable[[Hashes], Hashes]]:
    """For each of `bits + 1` bands, a function that extracts it from hashes."""
    edges = [64 * band // (bits + 1) for band in range(bits + 2)]

    def band(low: int, high: int) -> Callable[[Hashes], Hashes]:
        mask = np.uint64((1 << (high - low)) - 1)
        return lambda hashes: (hashes >> np.uint64(low)) & mask

    return [band(low, high) for low, high in itertools.pairwise(edges)]


def _buckets(hashes: Hashes, bits: int) -> Iterator[Indices]:
    """The indices of hashes that share a band, for each group of two or more."""
    for keys in _bands(bits):
        values = keys(hashes)
        order = np.argsort(values, kind="stable")
        borders = np.flatnonzero(np.diff(values[order])) + 1
        for bucket in np.split(order, borders):
            if len(bucket) > 1:
                yield bucket


def _links(hashes: Hashes, bits: int) -> tuple[Indices, Indices]:
    """Pairs that connect the near hashes of one bucket: all near pairs, or in a crowd only as many as needed."""
    count = len(hashes)
    firsts, seconds, found, start = [], [], 0, 0
    while start < count:
        rows = max(1, _CELLS // (count - start))
        block = np.bitwise_count(hashes[start : start + rows, None] ^ hashes[None, start:]) <= bits
        first, second = np.divmod(np.flatnonzero(block), count - start)
        after = first < second
        first, second = first[after], second[after]
        found += len(first)
        if found > _CROWDED * (start + rows):
            return _stars(hashes, bits)
        firsts.append(first + start)
        seconds.append(second + start)
        start += rows
    return np.concatenate(firsts), np.concatenate(seconds)


def _stars(hashes: Hashes, bits: int) -> tuple[Indices, Indices]:
    """Pairs that connect the near hashes of a crowd: each hash is linked once, to the first hash that reaches it."""
    rest = np.arange(len(hashes))
    firsts, seconds, reached = [], [], [rest[:0]]
    while len(rest):
        if len(reached[-1]):
            pivot, reached[-1] = reached[-1][0], reached[-1][1:]
        elif len(reached) > 1:
            reached.pop()
            continue
        else:
            pivot, rest = rest[0], rest[1:]
        close = near(hashes[rest], hashes[pivot], bits)
        if close.any():
            found = rest[close]
            firsts.append(np.full(len(found), pivot))
            seconds.append(found)
            reached.append(found)
            rest = rest[~close]
    return np.concatenate([rest, *firsts]), np.concatenate([rest, *seconds])


def _join(groups: Indices, first: Indices, second: Indices) -> Indices:
    """Merge the groups of each pair. A group has the index of its smallest member."""
    while True:
        low, high = np.minimum(groups[first], groups[second]), np.maximum(groups[first], groups[second])
        apart = low != high
        if not apart.any():
            return groups
        first, second = first[apart], second[apart]
        np.minimum.at(groups, high[apart], low[apart])
        while not np.array_equal(groups, shorter := groups[groups]):
            groups = shorter
