"""The silver planner: decides which photos training may use, with which label, and in which split.

Pure: bronze, silver and the table of splits as Arrow tables in, a plan out. The plan depends only on the rows and the settings, not
on the order of the rows, the engine or the time. Its rules:

- One row per content (sha256). Of equal files with one label the smallest path is used; a content with two labels is not used.
- A content that was ever in silver keeps its split for ever, also while it is away: a model has learned from it, or was judged on it.
- Photos that look alike (see `near_duplicates`) are in one split. A new photo joins the split of the photos that it
  resembles, whether these are still here or have left; a photo that resembles two splits is used in neither.
- Every class with three or more groups of its own has a photo in each split: the first group of a class goes to
  train, the second to test, the third to validation, whether they arrive together or one by one. (This cannot be guaranteed
  for groups with several classes: two classes may need the same group, in different splits.)
- Otherwise each class is divided by the shares of the settings, in the order of the photos' sha256. Photos that have left count for
  neither of these two rules.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import ledger
from car_damage.data.assignment import ASSIGNED, assign
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
"""height, width: pixels. sha256: of the file's bytes, the key. phash: as in bronze. split: train, validation or test."""

BRONZE_COLUMNS = (*ledger.KEY, "sha256", "phash", "label", "status", "reason", "detail", "width", "height")
"""The columns of bronze that the planner reads."""

_VERDICT = pa.schema([ledger.BRONZE.field(column) for column in (*ledger.KEY, "label", "status", "reason", "detail")])
_UNUSED = pa.schema([ledger.BRONZE.field("path"), ledger.BRONZE.field("reason")])
_AFRESH = pa.array(sorted(LABEL_REASONS | SET_REASONS))
_SET_REASON = pa.array([None, DUPLICATE, CONFLICTING_LABELS, AMBIGUOUS_SPLIT])


@dataclass(frozen=True)
class SilverPlan:
    """The changes that make silver agree with bronze."""

    rows: pa.Table
    """All rows of silver after the change: `SILVER`."""
    upsert: pa.Table
    """The `rows` that silver lacks or has with other values."""
    remove: pa.Table
    """sha256 of the rows to delete."""
    assigned: pa.Table
    """The rows to insert into the table of splits: `ASSIGNED`."""
    verdicts: pa.Table
    """Key, label, status, reason and detail of the bronze rows whose verdict changes."""
    unused: pa.Table
    """path and reason of every present row of bronze that silver does not use."""
    added: int
    """Rows of `upsert` whose content silver lacks."""
    changed: int
    """Rows of `upsert` whose content silver has."""

    @property
    def fingerprint(self) -> str:
        """sha256, in hexadecimal, of one line per row in the order of sha256: sha256, label and split, separated by tabs."""
        rows = self.rows.select(["sha256", "label", "split"])
        return ledger.digest_of_lines(rows.take(pc.sort_indices(rows["sha256"])).columns, "\t")


def plan(bronze: pa.Table, labels: pa.Table, silver: pa.Table, assigned: pa.Table, split: Split) -> SilverPlan:
    """Decide on every photo that can be decoded.

    Args:
        bronze: `BRONZE_COLUMNS` of the present rows, (n).
        labels: (n) rows in the same order: label, or the reason why there is none. They replace the labels in bronze.
        silver: the present rows of silver, `SILVER`.
        assigned: the table of splits, `ASSIGNED`. Rows of silver that it lacks, as those of versions that had no such table, are added.
        split: the settings of the split.
    """
    photos = _candidates(bronze, labels)
    used, reason, winner = _contents(photos)
    contents = photos.filter(pa.array(used)).select([*SILVER.names[:-1]])
    unnoted = silver.filter(pc.invert(pc.is_in(silver["sha256"], value_set=assigned["sha256"]))).select(ASSIGNED.names)
    known = pa.concat_tables([assigned, unnoted])
    at = pc.index_in(contents["sha256"], value_set=known["sha256"])
    contents = contents.append_column("split", pc.take(known["split"], at))
    if at.null_count:
        away = _whole(pc.is_null(at))
        fresh = assign(contents.filter(away), contents.filter(pc.invert(away)), known, split)
        contents = contents.set_column(len(SILVER) - 1, "split", pc.replace_with_mask(_whole(contents["split"]), away, fresh))
        reason[np.flatnonzero(used)[np.asarray(pc.is_null(contents["split"]))]] = 3
    rows = contents.filter(pc.is_valid(contents["split"])).cast(SILVER)
    reasons = pc.coalesce(_whole(photos["no_label"]), _SET_REASON.take(pa.array(reason)))
    verdicts = _verdicts(photos, reasons, reason, winner)
    undecodable = bronze.filter(pc.invert(_decodes(bronze))).select(_UNUSED.names).cast(_UNUSED)
    decodable = pa.table([photos["path"], reasons], schema=_UNUSED).filter(pc.is_valid(reasons))
    unused = pa.concat_tables([undecodable, decodable])
    fresh_rows = rows.filter(pc.invert(pc.is_in(rows["sha256"], value_set=known["sha256"]))).select(ASSIGNED.names)
    return _difference(rows, silver, pa.concat_tables([unnoted, fresh_rows]).cast(ASSIGNED), verdicts, unused)


def _candidates(bronze: pa.Table, labels: pa.Table) -> pa.Table:
    """The rows whose photo can be decoded, sorted by path, with the new label or the reason why there is none."""
    both = bronze.rename_columns({"label": "old_label", "reason": "old_reason"})
    both = both.append_column("label", labels["label"]).append_column("no_label", labels["reason"])
    return both.filter(_decodes(bronze)).sort_by([(column, "ascending") for column in ledger.KEY])


def _decodes(bronze: pa.Table) -> pa.ChunkedArray:
    """Whether each photo can be decoded: it is valid, or rejected for a reason that this planner decides again each time."""
    return pc.or_(pc.equal(bronze["status"], ledger.VALID), pc.is_in(bronze["reason"], value_set=_AFRESH))


def _contents(photos: pa.Table) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each candidate: whether it represents its content, the index of its reason, and the row that represents its content."""
    count = photos.num_rows
    used, reason, winner = np.zeros(count, bool), np.zeros(count, np.int64), np.arange(count)
    labelled = np.flatnonzero(np.asarray(pc.is_null(photos["no_label"])))
    content = _codes(photos["sha256"])[labelled]
    label = _codes(photos["label"])[labelled]
    # Rows are sorted by path, so the first row of a content has its smallest path.
    _, first, of = np.unique(content, return_index=True, return_inverse=True)
    conflicting = np.zeros(len(first), bool)
    conflicting[of[label != label[first][of]]] = True
    winner[labelled] = labelled[first][of]
    reason[labelled] = np.where(conflicting[of], 2, np.where(winner[labelled] == labelled, 0, 1))
    used[labelled] = reason[labelled] == 0
    return used, reason, winner


def _verdicts(photos: pa.Table, reasons: pa.Array, reason: npt.NDArray[np.int64], winner: npt.NDArray[np.int64]) -> pa.Table:
    """The verdicts that differ from those in bronze."""
    status = pc.if_else(pc.is_valid(reasons), ledger.REJECTED, ledger.VALID)
    detail = pc.if_else(pa.array(reason == 1), _whole(photos["path"]).take(pa.array(winner)), pa.scalar(None, pa.string()))
    for conflict in np.unique(winner[reason == 2]):
        alike = pa.array((winner == conflict) & (reason == 2))
        detail = pc.if_else(alike, ", ".join(sorted(set(photos["label"].filter(alike).to_pylist()))), detail)
    verdicts = pa.table([*(photos[column] for column in ledger.KEY), photos["label"], status, reasons, detail], schema=_VERDICT)
    before = photos.select([*ledger.KEY, "old_label", "status", "old_reason", "detail"]).rename_columns(_VERDICT.names)
    return verdicts.filter(_differs(verdicts, before, ("label", "status", "reason", "detail")))


def _differs(rows: pa.Table, others: pa.Table, columns: Sequence[str]) -> pa.ChunkedArray:
    """Whether each row differs from the row at the same place in the other table. Two nulls are equal."""
    same = [pc.equal(rows[column], others[column]) for column in columns]
    both_null = [pc.and_(pc.is_null(rows[column]), pc.is_null(others[column])) for column in columns]
    equal = [pc.or_(pc.fill_null(one, False), null) for one, null in zip(same, both_null, strict=True)]
    return pc.invert(functools.reduce(pc.and_, equal))


def _difference(rows: pa.Table, silver: pa.Table, assigned: pa.Table, verdicts: pa.Table, unused: pa.Table) -> SilverPlan:
    at = pc.index_in(rows["sha256"], value_set=silver["sha256"])
    upsert = rows.filter(_differs(rows, silver.take(at), SILVER.names))
    remove = silver.filter(pc.invert(pc.is_in(silver["sha256"], value_set=rows["sha256"]))).select(["sha256"])
    return SilverPlan(rows, upsert, remove, assigned, verdicts, unused, at.null_count, upsert.num_rows - at.null_count)


def _codes(texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number for each text; equal texts have equal numbers."""
    return np.asarray(_whole(texts).cast(pa.string()).dictionary_encode().indices.fill_null(-1), dtype=np.int64)


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
