"""sha256 as four numbers of eight bytes instead of 64 characters: compares millions of contents in little memory.

The numbers have the order of the text. Rows are sorted by their first number; where two share it, the others decide, so the results are
exact also for contents whose sha256 begin alike.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Digests: TypeAlias = npt.NDArray[np.uint64]
"""(n, 4) uint64."""
Indices: TypeAlias = npt.NDArray[np.int64]

STEP = 1 << 16
"""Rows that are worked on at once."""
_BAD = 255
_NIBBLES = np.full(256, _BAD, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def digests(texts: pa.ChunkedArray) -> Digests:
    """The numbers of a column of sha256 in hexadecimal; zeros for a null.

    Raises:
        ValueError: a text is not 64 hexadecimal digits in lower case.
    """
    found = np.zeros((len(texts), 4), np.uint64)
    start = 0
    for chunk in texts.chunks:
        for at in range(0, len(chunk), STEP):
            some = chunk.slice(at, STEP)
            found[start : start + len(some)][np.asarray(some.is_valid())] = _numbers(some.drop_null())
            start += len(some)
    return found


def order(given: Digests) -> Indices:
    """The rows in the order of their sha256; of equal ones the smaller row first."""
    ranked = np.argsort(given[:, 0], kind="stable")
    first = given[ranked, 0]
    if np.any((first[1:] == first[:-1]) & _changes(given, ranked)):
        return np.lexsort(given.T[::-1])
    return ranked


def firsts(given: Digests) -> Indices:
    """For each row the smallest row with the same sha256: (n,)."""
    ranked = order(given)
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(given)), bool), _changes(given, ranked)]))
    found = np.empty(len(given), np.int64)
    found[ranked] = np.repeat(ranked[starts], np.diff(starts, append=len(given)))
    return found


def places(given: Digests, among: Digests) -> Indices:
    """For each row of `given` the row of `among`, whose rows are all different, with the same sha256: (n,); -1 where there is none."""
    ranked = order(among)
    keys = among[ranked, 0]
    found = np.full(len(given), -1)
    for start in range(0, len(given), STEP):
        some = given[start : start + STEP]
        at, left = np.searchsorted(keys, some[:, 0]), np.arange(len(some))
        while True:
            left = left[at[left] < len(keys)]
            left = left[keys[at[left]] == some[left, 0]]
            if not len(left):
                break
            there = ranked[at[left]]
            equal = (some[left] == among[there]).all(axis=1)
            found[start + left[equal]] = there[equal]
            left = left[~equal]
            at[left] += 1
    return found


def _numbers(texts: pa.Array) -> Digests:
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1] if len(texts) else np.zeros(1, np.int32)
    if np.any(np.diff(ends) != 64):
        raise ValueError("a sha256 has 64 hexadecimal digits")
    characters = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if len(texts) else np.zeros(0, np.uint8)
    nibbles = _NIBBLES[characters].reshape(-1, 64)
    if np.any(nibbles == _BAD):
        raise ValueError("a sha256 has 64 hexadecimal digits in lower case")
    return np.ascontiguousarray(nibbles[:, ::2] << 4 | nibbles[:, 1::2]).view(">u8").astype(np.uint64)


def _changes(given: Digests, ranked: Indices) -> npt.NDArray[np.bool_]:
    """Whether each row but the first, in this order, differs from the row before it: (n - 1,)."""
    changes = np.zeros(max(0, len(given) - 1), bool)
    for word in range(4):
        words = given[ranked, word]
        changes |= words[1:] != words[:-1]
    return changes
