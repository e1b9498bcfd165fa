"""The silver planner: decides which photos training may use, with which label, and in which split.

Pure: bronze, silver and the table of splits as Arrow tables in, a plan out. The plan depends only on the rows and the settings, not
on the order of the rows, the engine or the time. Its rules:

- What a person has said of a content counts before what its folders say, also where these give it several labels, or none. Bronze keeps
  what the folders say.
- One row per content (sha256). Of equal files with one label the smallest path is used, of the present landing folder if
  it is there; a content with two labels is not used.
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
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import described
from car_damage.data.photos import digests, ledger, near_duplicates
from car_damage.data.photos.assignment import ASSIGNED, Codes, Contents, assign, flags_of, splits_of
from car_damage.photo.reasons import AMBIGUOUS_SPLIT, CONFLICTING_LABELS, DUPLICATE, LABEL_REASONS, REVIEW_REASONS, SET_REASONS
from car_damage.settings import Split

SILVER = described.table(
    "The photos that models are trained and tested on: valid, labelled, each content once. The photos themselves are not here.",
    [
        described.column("path", pa.string(), "Path of the file.", nullable=False),
        described.column("label", pa.string(), "Class of the damage.", nullable=False),
        described.column("height", pa.int64(), "Height of the upright photo in pixels.", nullable=False),
        described.column("width", pa.int64(), "Width of the upright photo in pixels.", nullable=False),
        described.column("sha256", pa.string(), "SHA-256 of the file's bytes, in hexadecimal: the key.", nullable=False),
        described.column("phash", pa.int64(), "Perceptual hash of the photo, as in bronze.", nullable=False),
        described.column("split", pa.string(), "train, validation or test.", nullable=False),
        described.column("label_from", pa.string(), "review, where a person has said the class; null where the landing folder gives it."),
    ],
)
ADDED = ("label_from",)
"""The columns that tables of earlier versions lack."""
REVIEW = "review"

BRONZE_COLUMNS = (*ledger.KEY, "sha256", "phash", "label", "status", "reason", "detail", "width", "height")
"""The columns of bronze that the planner reads."""

Rows: TypeAlias = npt.NDArray[np.int64]

_VERDICT = pa.schema([ledger.BRONZE.field(column) for column in (*ledger.KEY, "label", "status", "reason", "detail")])
_UNUSED = pa.schema([ledger.BRONZE.field("path"), ledger.BRONZE.field("reason")])
_AFRESH = pa.array(sorted(LABEL_REASONS | SET_REASONS | REVIEW_REASONS))
_USED, _DUPLICATE, _CONFLICTING, _AMBIGUOUS = range(4)
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
        order = digests.order(digests.digests(self.rows["sha256"]))
        return ledger.digest_of_lines([self.rows[name] for name in ("sha256", "label", "split")], "\t", order)


def plan(bronze: pa.Table, labels: pa.Table, silver: pa.Table, assigned: pa.Table, split: Split) -> SilverPlan:
    """Decide on every photo that can be decoded.

    Args:
        bronze: `BRONZE_COLUMNS` of the present rows, (n).
        labels: (n) rows in the same order: label, or the reason why there is none, which replace those in bronze; elsewhere, whether the
            file is of another folder than the landing folder; said, the class that a person gave, or withheld, why that person gave none.
        silver: the present rows of silver, `SILVER`.
        assigned: the table of splits, `ASSIGNED`. Rows of silver that it lacks, as those of versions that had no such table, are added.
        split: the settings of the split.
    """
    decodes = _decodes(bronze)
    settled = _settled(labels)
    labelled = np.flatnonzero(_mask(pc.and_(decodes, pc.is_null(settled["reason"]))))
    keys, codes = digests.digests(bronze["sha256"])[labelled], _codes(settled["label"])
    reason, winner = np.zeros(bronze.num_rows, np.uint8), np.arange(bronze.num_rows)
    reason[labelled], winner[labelled] = _contents(bronze, labels["elsewhere"], labelled, keys, codes)
    used = reason[labelled] == _USED
    contents, keys = labelled[used], keys[used]

    unnoted = _unnoted(silver, assigned)
    known = pa.concat_tables([assigned, unnoted])
    flags = flags_of(known["split"])
    at = digests.places(keys, digests.digests(known["sha256"]))
    decided = np.where(at < 0, 0, flags[at]) if len(flags) else np.zeros(len(at), np.uint8)
    if not decided.all():
        tonight = Contents(keys, near_duplicates.unsigned(pc.fill_null(bronze["phash"], 0))[contents], codes[contents], decided)
        decided = assign(tonight, near_duplicates.unsigned(known["phash"]), flags, split)
        reason[contents[decided == 0]] = _AMBIGUOUS
        del tonight
    before = digests.places(keys[decided > 0], digests.digests(silver["sha256"]))
    del keys  # the largest of what is not needed any more, before the rows are copied
    rows = _rows(bronze, settled, contents[decided > 0], decided[decided > 0])
    fresh = _rows_where(rows.select(ASSIGNED.names), at[decided > 0] < 0)
    verdicts, unused = _verdicts(bronze, labels["label"], settled["reason"], decodes, reason, winner)
    upsert, remove, added = _difference(rows, silver, before)
    noted = pa.concat_tables([unnoted, fresh]).cast(ASSIGNED)
    return SilverPlan(rows, upsert, remove, noted, verdicts, unused, added, upsert.num_rows - added)


def _settled(labels: pa.Table) -> pa.Table:
    """label, the reason why there is none, and label_from, after people have spoken."""
    spoken = pc.is_valid(labels["said"])
    return pa.table(
        {
            "label": pc.coalesce(labels["said"], labels["label"]),
            "reason": pc.if_else(spoken, None, pc.coalesce(labels["withheld"], labels["reason"])),
            "label_from": pc.if_else(spoken, REVIEW, pa.scalar(None, pa.string())),
        }
    )


def _decodes(bronze: pa.Table) -> pa.ChunkedArray:
    """Whether each photo can be decoded: it is valid, or rejected for a reason that this planner decides again each time."""
    return pc.or_(pc.equal(bronze["status"], ledger.VALID), pc.is_in(bronze["reason"], value_set=_AFRESH))


def _contents(
    bronze: pa.Table, elsewhere: pa.ChunkedArray, labelled: Rows, keys: digests.Digests, codes: Codes
) -> tuple[npt.NDArray[np.uint8], Rows]:
    """For each labelled row of bronze: the number of its reason, and the row that represents its content."""
    first = digests.firsts(keys)
    reason, winner = np.zeros(len(labelled), np.uint8), np.arange(len(labelled))
    again = np.flatnonzero((np.bincount(first, minlength=len(first)) > 1)[first])
    # Of the files of a content the first one in the order of their keys represents it.
    files = bronze.select(ledger.KEY).append_column("elsewhere", elsewhere).take(labelled[again])
    ordered = again[np.asarray(pc.sort_indices(files, [(column, "ascending") for column in ("elsewhere", *ledger.KEY)]))]
    _, place, of = np.unique(first[ordered], return_index=True, return_inverse=True)
    best = ordered[place]
    label = codes[labelled]
    conflicting = np.zeros(len(place), bool)
    conflicting[of[label[ordered] != label[best][of]]] = True
    winner[ordered] = best[of]
    reason[ordered] = np.where(conflicting[of], _CONFLICTING, np.where(winner[ordered] == ordered, _USED, _DUPLICATE))
    return reason, labelled[winner]


def _unnoted(silver: pa.Table, assigned: pa.Table) -> pa.Table:
    """The rows of silver that the table of splits lacks."""
    lacking = digests.places(digests.digests(silver["sha256"]), digests.digests(assigned["sha256"])) < 0
    return _rows_where(silver.select(ASSIGNED.names), lacking)


def _rows(bronze: pa.Table, settled: pa.Table, contents: Rows, flags: near_duplicates.Flags) -> pa.Table:
    """The rows of silver for these rows of bronze, with these flags of their splits."""
    chosen = np.zeros(bronze.num_rows, bool)
    chosen[contents] = True
    given = bronze.select([name for name in SILVER.names if name not in {"split", *settled.column_names}])
    for name in ("label", "label_from"):
        given = given.append_column(name, settled[name])
    return _rows_where(given, chosen).append_column("split", splits_of(flags)).select(SILVER.names).cast(SILVER)


def _verdicts(  # noqa: PLR0917 - what bronze has, and all that decides
    bronze: pa.Table,
    labels: pa.ChunkedArray,
    unlabelled: pa.ChunkedArray,
    decodes: pa.ChunkedArray,
    reason: npt.NDArray[np.uint8],
    winner: Rows,
) -> tuple[pa.Table, pa.Table]:
    """The verdicts that differ from those in bronze, and path and reason of all photos that are not used."""
    reasons = pc.if_else(decodes, pc.coalesce(unlabelled, _SET_REASON.take(pa.array(reason))), bronze["reason"])
    fresh = pa.table(
        {
            "label": labels,
            "status": pc.if_else(pc.is_null(reasons), ledger.VALID, ledger.REJECTED),
            "reason": reasons,
            "detail": _details(bronze["path"], labels, reason, winner),
        }
    )
    changed = _mask(pc.and_(decodes, _differs(fresh, bronze, fresh.column_names)))
    verdicts = pa.table([*_rows_where(bronze.select(ledger.KEY), changed), *_rows_where(fresh, changed)], schema=_VERDICT)
    rejected = pa.table([bronze["path"], reasons], schema=_UNUSED)
    return verdicts, _rows_where(rejected, _mask(pc.or_(pc.invert(decodes), pc.is_valid(reasons))))


def _details(paths: pa.ChunkedArray, labels: pa.ChunkedArray, reason: npt.NDArray[np.uint8], winner: Rows) -> pa.Array:
    """For a duplicate the path of the file that is used; for a content with conflicting labels all its labels."""
    duplicates, conflicts = np.flatnonzero(reason == _DUPLICATE), np.flatnonzero(reason == _CONFLICTING)
    each = pa.table({"content": winner[conflicts], "label": labels.take(pa.array(conflicts))})
    named = each.group_by(["content", "label"]).aggregate([]).sort_by([("content", "ascending"), ("label", "ascending")])
    listed = named.group_by("content", use_threads=False).aggregate([("label", "list")])
    told = pc.binary_join(listed["label_list"], ", ").take(pc.index_in(each["content"], value_set=listed["content"]))
    texts = pa.chunked_array([*paths.take(pa.array(winner[duplicates])).chunks, *told.chunks], pa.string())
    place = np.full(len(reason), -1)
    place[duplicates], place[conflicts] = np.arange(len(duplicates)), len(duplicates) + np.arange(len(conflicts))
    return _whole(texts).take(pa.array(place, mask=place < 0))


def _difference(rows: pa.Table, silver: pa.Table, at: Rows) -> tuple[pa.Table, pa.Table, int]:
    """The rows that silver lacks or has with other values, sha256 of those that it must lose, and how many it lacks.

    `at` has for each row its place in silver; -1 where silver lacks it.
    """
    stays = np.zeros(silver.num_rows, bool)
    stays[at[at >= 0]] = True
    differs = at < 0
    for name in SILVER.names:  # one column and a part of the rows after another, because each comparison copies
        stored = _whole(silver[name])
        for start in range(0, len(at), digests.STEP):
            some = slice(start, start + digests.STEP)
            places = pa.array(at[some], mask=at[some] < 0)
            differs[some] |= _mask(_differs(rows.select([name])[some], pa.table({name: stored.take(places)}), [name]))
    return _rows_where(rows, differs), _rows_where(silver.select(["sha256"]), ~stays), int((at < 0).sum())


def _differs(rows: pa.Table, others: pa.Table, columns: Sequence[str]) -> pa.ChunkedArray:
    """Whether each row differs from the row at the same place in the other table. Two nulls are equal."""
    same = [pc.equal(rows[column], others[column]) for column in columns]
    both_null = [pc.and_(pc.is_null(rows[column]), pc.is_null(others[column])) for column in columns]
    equal = [pc.or_(pc.fill_null(one, False), null) for one, null in zip(same, both_null, strict=True)]
    return pc.invert(functools.reduce(pc.and_, equal))


def _codes(texts: pa.ChunkedArray) -> Codes:
    """A number for each text, in the order of the texts; -1 for a null."""
    different = pc.unique(texts).drop_null()
    return np.asarray(pc.fill_null(pc.index_in(texts, value_set=different.take(pc.sort_indices(different))), -1))


def _rows_where(table: pa.Table, chosen: npt.NDArray[np.bool_]) -> pa.Table:
    """The chosen rows; the table itself, and no copy, where all are."""
    return table if chosen.all() else table.filter(pa.array(chosen))


def _mask(values: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.fill_null(values, False))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece. One that is in one piece already would be copied by `combine_chunks`."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
