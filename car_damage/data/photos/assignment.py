"""Assigns photos to the splits train, validation and test. See `car_damage.data.photos.silver` for the rules."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import described
from car_damage.data.photos import digests, near_duplicates
from car_damage.data.photos.splits import TEST, TRAIN, VALIDATION
from car_damage.settings import Split

ASSIGNED = described.table(
    "The split of each photo that was ever in silver. Rows are inserted, and never changed or removed: a photo keeps its split for ever.",
    [
        described.column("sha256", pa.string(), "SHA-256 of the file's bytes, in hexadecimal: the key.", nullable=False),
        described.column("phash", pa.int64(), "Perceptual hash of the photo, as in bronze.", nullable=False),
        described.column("split", pa.string(), "train, validation or test.", nullable=False),
    ],
)

_FLAGS = {TRAIN: 1, TEST: 2, VALIDATION: 4}
_FLAG_OF = np.array([*_FLAGS.values(), 0], np.uint8)
_SPLITS = {flag: split for split, flag in _FLAGS.items()}
_NAMES = pa.array([_SPLITS.get(flag) for flag in range(max(_SPLITS) + 1)], pa.string())
_AMBIGUOUS = 255


Codes: TypeAlias = npt.NDArray[np.int32]
Indices: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """The contents of tonight, (n)."""

    digests: digests.Digests
    hashes: near_duplicates.Hashes
    labels: Codes
    """Class numbers: 0, 1, ..."""
    flags: near_duplicates.Flags
    """Of their splits; 0 for a content that was never assigned."""


def flags_of(splits: pa.ChunkedArray) -> near_duplicates.Flags:
    """The flag of each split; 0 for another word."""
    numbers = np.asarray(pc.fill_null(pc.index_in(splits, value_set=pa.array([*_FLAGS])), len(_FLAGS)))
    return np.take(_FLAG_OF, numbers)


def splits_of(flags: near_duplicates.Flags) -> pa.Array:
    """The split of each flag. Flags come from a content that has a split."""
    return _NAMES.take(pa.array(flags))


def assign(contents: Contents, known: near_duplicates.Hashes, known_flags: near_duplicates.Flags, split: Split) -> near_duplicates.Flags:
    """The flags of all contents, (n): those of new contents are decided, and are 0 for a content that resembles two splits.

    Args:
        contents: those of tonight. They count for the shares.
        known: (m,) the hashes of all contents that were ever assigned. They count for near-duplicates.
        known_flags: (m,) the flags of their splits.
        split: the settings of the split.
    """
    fresh = np.flatnonzero(contents.flags == 0)
    # A new content's place is its rank among the sha256 of all of them.
    fresh = fresh[digests.order(contents.digests[fresh])]
    # Contents with the same hash get the same split: they are one node, whose rank is that of its smallest sha256.
    nodes, rank, node = np.unique(contents.hashes[fresh], return_index=True, return_inverse=True)
    seen = near_duplicates.touched(nodes, known, known_flags, split.near_duplicate_bits)
    assigned, groups = _spread(nodes, rank, seen, split.near_duplicate_bits)
    flags = contents.flags.copy()
    flags[fresh] = assigned[node]
    # A group's number is the rank of its smallest sha256, so this is also the order in which the groups are assigned.
    open_, group = fresh[flags[fresh] == 0], groups[node[flags[fresh] == 0]]
    by_group = np.lexsort((contents.labels[open_], group))
    open_, group = open_[by_group], group[by_group]
    flags[open_] = _chosen(group, contents.labels[open_], _counts(contents.labels, flags), split)
    flags[flags == _AMBIGUOUS] = 0
    return flags


def _counts(labels: Codes, flags: near_duplicates.Flags) -> list[dict[int, int]]:
    """For each class: flag of a split -> photos in that split."""
    classes = int(labels.max(initial=-1)) + 1
    by_flag = {flag: np.bincount(labels[flags == flag], minlength=classes).tolist() for flag in _SPLITS}
    return [{flag: numbers[label] for flag, numbers in by_flag.items()} for label in range(classes)]


def _chosen(group: Indices, labels: Codes, photos: list[dict[int, int]], split: Split) -> near_duplicates.Flags:
    """The flag for each photo of the groups without a split, sorted by group, then by class. `photos` is kept up to date."""
    starts = np.flatnonzero((np.diff(group, prepend=-1) != 0) | (np.diff(labels, prepend=-1) != 0))
    numbers = np.diff(starts, append=len(group))
    flags, done = np.empty(len(starts), np.uint8), 0
    for _, runs in groupby(_runs(group[starts], labels[starts], numbers), key=itemgetter(0)):
        classes = {label: number for _, label, number in runs}
        flag = _choose(classes, photos, split)
        flags[done : done + len(classes)] = flag
        done += len(classes)
        for label, number in classes.items():
            photos[label][flag] += number
    return np.repeat(flags, numbers)


def _runs(*columns: npt.NDArray[np.integer]) -> Iterator[tuple[int, ...]]:
    """The rows as numbers of Python, of which only a few exist at once."""
    for start in range(0, len(columns[0]), digests.STEP):
        yield from zip(*(column[start : start + digests.STEP].tolist() for column in columns), strict=True)


def _spread(nodes: near_duplicates.Hashes, rank: Indices, seen: near_duplicates.Flags, bits: int) -> tuple[near_duplicates.Flags, Indices]:
    """Copy the splits of stored photos to the new photos that resemble them.

    Returns:
        For each node the flag of its split, 255 if it is ambiguous, 0 if it resembles no stored photo; and the
        smallest rank in its group of undecided nodes.
    """
    groups = near_duplicates.components(nodes, bits)
    carried = np.zeros(len(nodes), np.uint8)
    np.bitwise_or.at(carried, groups, seen)
    several = np.bitwise_count(carried) > 1
    assigned = np.where(several, 0, carried)[groups].astype(np.uint8)
    for root in np.flatnonzero(several):
        members = np.flatnonzero(groups == root)
        assigned[members] = _walk(nodes[members], rank[members], seen[members], bits)
        # Photos that are linked to stored photos only through an ambiguous photo form groups of their own.
        left = members[assigned[members] == 0]
        groups[left] = left[near_duplicates.components(nodes[left], bits)]
    smallest = np.full(len(nodes), np.iinfo(np.int64).max)
    undecided = np.flatnonzero(assigned == 0)
    np.minimum.at(smallest, groups[undecided], rank[undecided])
    return assigned, smallest[groups]


def _walk(nodes: near_duplicates.Hashes, rank: Indices, seen: near_duplicates.Flags, bits: int) -> near_duplicates.Flags:
    """Breadth-first search from the stored photos of several splits, nearest first, then by sha256.

    A node gets the split of its decided neighbours. If they have several, it is ambiguous and passes no split on. So no
    two neighbours get different splits.
    """
    seen, assigned = seen.copy(), np.zeros(len(nodes), np.uint8)
    front = np.flatnonzero(seen)
    while len(front):
        reached = np.zeros(len(nodes), bool)
        for one in front[np.argsort(rank[front])]:
            if np.bitwise_count(seen[one]) > 1:
                assigned[one] = _AMBIGUOUS
                continue
            assigned[one] = seen[one]
            close = near_duplicates.near(nodes, nodes[one], bits)
            reached |= close & (seen == 0)
            seen[close] |= assigned[one]
        front = np.flatnonzero(reached)
    return assigned


def _choose(group: Mapping[int, int], photos: Sequence[Mapping[int, int]], split: Split) -> int:
    """A split that a class of the group still lacks, in the order train, test, validation; else the one furthest below its share.

    Stratified instead of random, because a random split of 56 photos may leave only three for judging a model.

    Args:
        group: class -> photos in the group.
        photos: for each class: flag of a split -> photos in that split.
        split: the shares.
    """
    for flag in _SPLITS:
        if not all(photos[label][flag] for label in group):
            return flag
    shares = {_FLAGS[TRAIN]: 1 - split.test - split.validation, _FLAGS[TEST]: split.test, _FLAGS[VALIDATION]: split.validation}

    def behind(flag: int) -> float:
        return sum(shares[flag] * (sum(photos[label].values()) + number) - photos[label][flag] for label, number in group.items())

    return max(shares, key=behind)
