"""Assigns photos to the splits train, validation and test. See `car_damage.data.silver` for the rules."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import near_duplicates
from car_damage.data.splits import TEST, TRAIN, VALIDATION
from car_damage.settings import Split

ASSIGNED = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("phash", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)
"""The table of splits: one row for each content that was ever in silver. Rows are inserted, and never changed or removed. sha256: of the
file's bytes, the key. phash: as in bronze. split: train, validation or test."""

_FLAGS = {TRAIN: 1, TEST: 2, VALIDATION: 4}
_SPLITS = {flag: split for split, flag in _FLAGS.items()}
_AMBIGUOUS = 255


def assign(fresh: pa.Table, kept: pa.Table, known: pa.Table, split: Split) -> pa.Array:
    """The split of each new content; null for a content that resembles two splits.

    Args:
        fresh: sha256, phash and label of the contents that were never assigned.
        kept: label and split of the other contents of tonight, which count for the shares.
        known: phash and split of all contents that were ever assigned, which count for near-duplicates.
        split: the settings of the split.
    """
    order = np.asarray(pc.sort_indices(fresh["sha256"]))
    labels = fresh["label"].take(pa.array(order)).to_pylist()
    # Contents with the same hash get the same split: they are one node, whose rank is that of its smallest sha256.
    nodes, rank, node = np.unique(near_duplicates.unsigned(fresh["phash"])[order], return_index=True, return_inverse=True)
    seen = near_duplicates.touched(nodes, near_duplicates.unsigned(known["phash"]), _flags(known["split"]), split.near_duplicate_bits)
    assigned, groups = _spread(nodes, rank, seen, split.near_duplicate_bits)

    photos: dict[str, Counter[int]] = defaultdict(Counter)
    flags = [*_flags(kept["split"]).tolist(), *assigned[node].tolist()]
    for label, flag in zip(kept["label"].to_pylist() + labels, flags, strict=True):
        photos[label][flag] += 1
    # A group's number is the rank of its smallest sha256, so this is also the order in which the groups are assigned.
    open_ = np.flatnonzero(assigned[node] == 0)
    first = groups[node[open_]]
    by_group = np.argsort(first, kind="stable")
    for _, members in groupby(zip(first[by_group].tolist(), open_[by_group].tolist(), strict=True), key=itemgetter(0)):
        contents = [content for _, content in members]
        classes = Counter(labels[content] for content in contents)
        flag = _choose(classes, photos, split)
        assigned[node[contents]] = flag
        for label, number in classes.items():
            photos[label][flag] += number
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.array([_SPLITS.get(flag) for flag in assigned[node][back].tolist()], pa.string())


def _spread(
    nodes: near_duplicates.Hashes, rank: npt.NDArray[np.int64], seen: near_duplicates.Flags, bits: int
) -> tuple[near_duplicates.Flags, npt.NDArray[np.int64]]:
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


def _walk(nodes: near_duplicates.Hashes, rank: npt.NDArray[np.int64], seen: near_duplicates.Flags, bits: int) -> near_duplicates.Flags:
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


def _choose(group: Mapping[str, int], photos: Mapping[str, Mapping[int, int]], split: Split) -> int:
    """A split that a class of the group still lacks, in the order train, test, validation; else the one furthest below its share.

    Stratified instead of random, because a random split of 56 photos may leave only three for judging a model.

    Args:
        group: class -> photos in the group.
        photos: class -> flag of a split -> photos in that split.
        split: the shares.
    """
    for flag in _SPLITS:
        if not all(photos[label].get(flag) for label in group):
            return flag
    shares = {_FLAGS[TRAIN]: 1 - split.test - split.validation, _FLAGS[TEST]: split.test, _FLAGS[VALIDATION]: split.validation}

    def behind(flag: int) -> float:
        divided = {label: sum(photos[label].get(one, 0) for one in _SPLITS) for label in group}
        return sum(shares[flag] * (divided[label] + number) - photos[label].get(flag, 0) for label, number in group.items())

    return max(shares, key=behind)


def _flags(splits: pa.ChunkedArray) -> near_duplicates.Flags:
    return np.array([_FLAGS[name] for name in splits.to_pylist()], np.uint8)
