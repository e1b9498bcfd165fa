"""The silver planner: which photos training may use, under which label, and in which split.

Pure: bronze and silver as Arrow tables in, a plan out. The plan depends on the rows and the settings alone, not
on the order of the rows, the engine or the moment. What it keeps:

- One row a content. Of equal files with one label the smallest path is used; a content under two labels is not.
- A content that stays in silver keeps its split for ever.
- Photos that look alike (see `near_duplicates`) are in one split. A new photo joins the split of those that it
  resembles; one that resembles two splits is used in neither.
- Every class with three or more groups of its own has a photo in each split: the first group of a class goes to
  train, the second to test, the third to validation, whether they arrive at once or one by one. (No rule can promise
  it for groups that look alike across classes: one group may be all that two classes still wait for, in two splits.)
- Beyond that each class is divided by the shares of the settings, in the order of the photos' sha256.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import ledger, near_duplicates
from car_damage.data.splits import TEST, TRAIN, VALIDATION
from car_damage.photo.reasons import AMBIGUOUS_SPLIT, CONFLICTING_LABELS, DUPLICATE, LABEL_REASONS, SET_REASONS
from car_damage.settings import Split

SILVER = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("phash", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)
"""height and width in pixels; sha256 of the file's bytes, the key; phash as in bronze; split train, validation or test."""

BRONZE_COLUMNS = (*ledger.KEY, "sha256", "phash", "label", "status", "reason", "detail", "width", "height")
"""What the planner reads of bronze."""

_VERDICT = pa.schema([ledger.BRONZE.field(column) for column in (*ledger.KEY, "label", "status", "reason", "detail")])
_UNUSED = pa.schema([ledger.BRONZE.field("path"), ledger.BRONZE.field("reason")])
_AFRESH = pa.array(sorted(LABEL_REASONS | SET_REASONS))
_FLAGS = {TRAIN: 1, TEST: 2, VALIDATION: 4}
_SPLITS = {flag: split for split, flag in _FLAGS.items()}
_AMBIGUOUS = 255
_SET_REASON = pa.array([None, DUPLICATE, CONFLICTING_LABELS, AMBIGUOUS_SPLIT])


@dataclass(frozen=True)
class SilverPlan:
    """What to write so that silver agrees with bronze."""

    rows: pa.Table
    """Silver as it will be: `SILVER`."""
    upsert: pa.Table
    """Those of `rows` that are not in silver just so."""
    remove: pa.Table
    """sha256 of the rows that leave."""
    verdicts: pa.Table
    """Key, label, status, reason and detail of the bronze rows whose verdict is another one than the table says."""
    unused: pa.Table
    """path and reason of every present row of bronze that silver does not use."""
    added: int
    changed: int

    @property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, of one line a row in the order of sha256: sha256, label and split, separated by tabs."""
        rows = self.rows.select(["sha256", "label", "split"])
        return ledger.digest_of_lines(rows.take(pc.sort_indices(rows["sha256"])).columns, "\t")


def plan(bronze: pa.Table, labels: pa.Table, silver: pa.Table, split: Split) -> SilverPlan:
    """Decide on every photo that decodes.

    Args:
        bronze: `BRONZE_COLUMNS` of the present rows, (n).
        labels: (n) rows beside them: label, or reason why there is none. Replaces what bronze says.
        silver: as it stands, `SILVER`.
        split: settings.
    """
    photos = _candidates(bronze, labels)
    used, reason, winner = _contents(photos)
    contents = photos.filter(pa.array(used)).select([*SILVER.names[:-1]])
    at = pc.index_in(contents["sha256"], value_set=silver["sha256"])
    splits = pc.take(silver["split"], at)
    if at.null_count:
        kept = silver.filter(pc.is_in(silver["sha256"], value_set=contents["sha256"]))
        fresh = contents.filter(pc.is_null(at))
        assigned = _assign(fresh, kept, split)
        splits = pc.replace_with_mask(_whole(splits), _whole(pc.is_null(at)), assigned)
        reason[np.flatnonzero(used)[np.asarray(pc.is_null(splits))]] = 3
    rows = contents.append_column("split", splits).filter(pc.is_valid(splits)).cast(SILVER)
    reasons = pc.coalesce(_whole(photos["no_label"]), _SET_REASON.take(pa.array(reason)))
    verdicts = _verdicts(photos, reasons, reason, winner)
    undecodable = bronze.filter(pc.invert(_decodes(bronze))).select(_UNUSED.names).cast(_UNUSED)
    decodable = pa.table([photos["path"], reasons], schema=_UNUSED).filter(pc.is_valid(reasons))
    unused = pa.concat_tables([undecodable, decodable])
    return _difference(rows, silver, verdicts, unused)


def _candidates(bronze: pa.Table, labels: pa.Table) -> pa.Table:
    """Rows whose photo decodes, by path, with the fresh label and why there is none."""
    both = bronze.rename_columns({"label": "old_label", "reason": "old_reason"})
    both = both.append_column("label", labels["label"]).append_column("no_label", labels["reason"])
    return both.filter(_decodes(bronze)).sort_by([(column, "ascending") for column in ledger.KEY])


def _decodes(bronze: pa.Table) -> pa.ChunkedArray:
    """Valid, or rejected only for what is decided afresh each time."""
    return pc.or_(pc.equal(bronze["status"], ledger.VALID), pc.is_in(bronze["reason"], value_set=_AFRESH))


def _contents(photos: pa.Table) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each candidate: whether it stands for its content, the number of its reason, and the row that does stand for it."""
    count = photos.num_rows
    used, reason, winner = np.zeros(count, bool), np.zeros(count, np.int64), np.arange(count)
    labelled = np.flatnonzero(np.asarray(pc.is_null(photos["no_label"])))
    content = _codes(photos["sha256"])[labelled]
    label = _codes(photos["label"])[labelled]
    # Rows are ordered by path, so the first of a content has the smallest one.
    _, first, of = np.unique(content, return_index=True, return_inverse=True)
    conflicting = np.zeros(len(first), bool)
    conflicting[of[label != label[first][of]]] = True
    winner[labelled] = labelled[first][of]
    reason[labelled] = np.where(conflicting[of], 2, np.where(winner[labelled] == labelled, 0, 1))
    used[labelled] = reason[labelled] == 0
    return used, reason, winner


def _verdicts(photos: pa.Table, reasons: pa.Array, reason: npt.NDArray[np.int64], winner: npt.NDArray[np.int64]) -> pa.Table:
    """The verdicts that bronze does not have yet."""
    status = pc.if_else(pc.is_valid(reasons), ledger.REJECTED, ledger.VALID)
    detail = pc.if_else(pa.array(reason == 1), _whole(photos["path"]).take(pa.array(winner)), pa.scalar(None, pa.string()))
    for conflict in np.unique(winner[reason == 2]):
        alike = pa.array((winner == conflict) & (reason == 2))
        detail = pc.if_else(alike, ", ".join(sorted(set(photos["label"].filter(alike).to_pylist()))), detail)
    verdicts = pa.table([*(photos[column] for column in ledger.KEY), photos["label"], status, reasons, detail], schema=_VERDICT)
    before = photos.select([*ledger.KEY, "old_label", "status", "old_reason", "detail"]).rename_columns(_VERDICT.names)
    return verdicts.filter(_differs(verdicts, before, ("label", "status", "reason", "detail")))


def _differs(rows: pa.Table, others: pa.Table, columns: Sequence[str]) -> pa.ChunkedArray:
    """Where a row is not equal to the one beside it; nothing equals nothing."""
    same = [pc.equal(rows[column], others[column]) for column in columns]
    both_null = [pc.and_(pc.is_null(rows[column]), pc.is_null(others[column])) for column in columns]
    equal = [pc.or_(pc.fill_null(one, False), null) for one, null in zip(same, both_null, strict=True)]
    return pc.invert(functools.reduce(pc.and_, equal))


def _difference(rows: pa.Table, silver: pa.Table, verdicts: pa.Table, unused: pa.Table) -> SilverPlan:
    at = pc.index_in(rows["sha256"], value_set=silver["sha256"])
    upsert = rows.filter(_differs(rows, silver.take(at), SILVER.names))
    remove = silver.filter(pc.invert(pc.is_in(silver["sha256"], value_set=rows["sha256"]))).select(["sha256"])
    return SilverPlan(rows, upsert, remove, verdicts, unused, at.null_count, upsert.num_rows - at.null_count)


def _assign(fresh: pa.Table, kept: pa.Table, split: Split) -> pa.Array:
    """The split of each content that silver does not hold; null for one that resembles two splits."""
    order = np.asarray(pc.sort_indices(fresh["sha256"]))
    labels = fresh["label"].take(pa.array(order)).to_pylist()
    # Contents with one hash share their fate: they are one node, and its rank is that of its smallest sha256.
    nodes, rank, node = np.unique(_unsigned(fresh["phash"])[order], return_index=True, return_inverse=True)
    flags = np.array([_FLAGS[name] for name in kept["split"].to_pylist()], np.uint8)
    seen = near_duplicates.touched(nodes, _unsigned(kept["phash"]), flags, split.near_duplicate_bits)
    assigned, groups = _spread(nodes, rank, seen, split.near_duplicate_bits)

    photos: dict[str, Counter[int]] = defaultdict(Counter)
    for label, flag in zip(kept["label"].to_pylist() + labels, [*flags.tolist(), *assigned[node].tolist()], strict=True):
        photos[label][flag] += 1
    # A group is named by the rank of its smallest sha256, so this is also the order in which groups are served.
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
    """Carry stored splits along to what resembles their photos.

    Returns:
        For each node the flag of its split, 255 where it is ambiguous, 0 where no stored photo decides; and the
        smallest rank of the group of undecided nodes that it belongs to.
    """
    groups = near_duplicates.components(nodes, bits)
    carried = np.zeros(len(nodes), np.uint8)
    np.bitwise_or.at(carried, groups, seen)
    several = np.bitwise_count(carried) > 1
    assigned = np.where(several, 0, carried)[groups].astype(np.uint8)
    for root in np.flatnonzero(several):
        members = np.flatnonzero(groups == root)
        assigned[members] = _walk(nodes[members], rank[members], seen[members], bits)
        # What lies behind an ambiguous photo is cut off from the stored ones, and forms groups of its own.
        left = members[assigned[members] == 0]
        groups[left] = left[near_duplicates.components(nodes[left], bits)]
    smallest = np.full(len(nodes), np.iinfo(np.int64).max)
    undecided = np.flatnonzero(assigned == 0)
    np.minimum.at(smallest, groups[undecided], rank[undecided])
    return assigned, smallest[groups]


def _walk(nodes: near_duplicates.Hashes, rank: npt.NDArray[np.int64], seen: near_duplicates.Flags, bits: int) -> near_duplicates.Flags:
    """Breadth-first from the stored photos of several splits, nearest first, then by sha256.

    A node takes the one split that all its decided neighbours have, or is ambiguous and carries nothing on: so no
    two neighbours ever get different splits.
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
    """A split that a class still lacks, train before test before validation; else the one furthest behind its share.

    Stratified rather than drawn by chance, because of 56 photos chance may leave three to judge a model by.

    Args:
        group: class -> photos of the group.
        photos: class -> flag of a split -> photos that are in it.
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


def _codes(texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Equal numbers for equal texts."""
    return np.asarray(_whole(texts).cast(pa.string()).dictionary_encode().indices.fill_null(-1), dtype=np.int64)


def _unsigned(hashes: pa.ChunkedArray) -> near_duplicates.Hashes:
    return np.ascontiguousarray(np.asarray(hashes, dtype=np.int64)).view(np.uint64)


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    combined = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
