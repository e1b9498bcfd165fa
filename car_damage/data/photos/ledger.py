"""Bronze, the ledger of every file version ever seen, and its comparison with a listing of the landing folder.

A row's key is (path, size, modified). A row is *present* while its file exists: `valid`, or `rejected` with a
reason. It is *gone* after the file was overwritten (`replaced`) or removed (`vanished`); it keeps the reason of its last
verdict. A file that returns unchanged is read again, and its row becomes present.

Pure: Arrow tables in, Arrow tables out, without a Python object per row.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import described
from car_damage.data.photos.guard import losses
from car_damage.machine import absolute
from car_damage.photo.limits import Limits
from car_damage.pipeline import RECIPE
from car_damage.ports import File, LandingDiff
from car_damage.settings import Settings

INSTANT = pa.timestamp("us", tz="UTC")
PHOTOS, WORDS = "photos/", "words/"
"""The two folders of the corrections folder: see `car_damage.data.people.reviews`."""

BRONZE = described.table(
    "One row for each version of a file that was ever in the landing folder, with the verdict on it. The photos themselves are not here.",
    [
        described.column("path", pa.string(), "Path of the file.", nullable=False),
        described.column("size", pa.int64(), "Size of the file in bytes.", nullable=False),
        described.column("modified", INSTANT, "Time at which the file was last changed.", nullable=False),
        described.column("sha256", pa.string(), "SHA-256 of the file's bytes, in hexadecimal."),
        described.column(
            "phash",
            pa.int64(),
            "The 64 bits of the photo's perceptual hash, as a signed number. Photos that look alike differ in few bits.",
        ),
        described.column("label", pa.string(), "Class of the damage, from the file's folder or a table of labels."),
        described.column("status", pa.string(), "valid, rejected, replaced (the path has another file), or vanished.", nullable=False),
        described.column("reason", pa.string(), "Why the file cannot be used; null for one that can."),
        described.column("detail", pa.string(), "Details of the reason, such as the path of the photo that it repeats."),
        described.column("format", pa.string(), "Format of the file, as its bytes say."),
        described.column("width", pa.int64(), "Width of the upright photo in pixels."),
        described.column("height", pa.int64(), "Height of the upright photo in pixels."),
        described.column("ingest_run", pa.string(), "Prefect flow run that gave the verdict."),
        described.column("ingested", INSTANT, "Time of the verdict."),
        described.column(
            "judged_under", pa.string(), "Recipe of the decoder and limits of the verdict, as JSON; null where the file needs a verdict."
        ),
    ],
)
"""judged_under is null in rows of earlier versions, and where the file's bytes turned out to be others."""

KEY = ("path", "size", "modified")
VALID, REJECTED, REPLACED, VANISHED = "valid", "rejected", "replaced", "vanished"
PRESENT = pa.array([VALID, REJECTED])

ADDED = ("judged_under",)
"""The columns that tables of earlier versions lack."""
COMPARED = (*KEY, "label", "judged_under")
"""The columns of bronze that `compare` reads."""


@dataclass(frozen=True)
class Listing:
    """All files of a folder at one moment."""

    folder: str
    files: pa.Table
    """As returned by `listing`."""

    def below(self, name: str) -> pa.Table:
        """The files of a folder in it."""
        return self.files.filter(below(self.folder.rstrip("/") + f"/{name}", self.files["path"]))


_LISTED = pa.schema([BRONZE.field(column) for column in KEY])
_GONE = pa.schema([*_LISTED, BRONZE.field("status")])
_LINES = 1 << 16
"""Lines that exist at once."""
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def milliseconds(modified: datetime) -> int:
    """A modified time as whole milliseconds since 1970, UTC."""
    return (modified - _EPOCH) // timedelta(milliseconds=1)


def listing(files: Iterable[tuple[str, int, int]]) -> pa.Table:
    """Path, size in bytes and modified time in milliseconds of each file, as the key columns of bronze."""
    rows = list(files)
    paths, sizes, modified = zip(*rows, strict=True) if rows else ((), (), ())
    instants = pc.cast(pc.multiply(pa.array(modified, pa.int64()), 1000), INSTANT)
    return _one_a_path(pa.Table.from_arrays([pa.array(paths, pa.string()), pa.array(sizes, pa.int64()), instants], schema=_LISTED))


def listing_of(files: Iterable[File]) -> pa.Table:
    """The same as `listing`, for the files that the port Files lists."""
    return listing((file.path, file.size, milliseconds(file.modified)) for file in files)


def conform(table: pa.Table, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """The columns with the types of the schema. The columns of a table that does not exist yet have no type."""
    return table.select(list(columns)).cast(pa.schema([schema.field(column) for column in columns]))


def below(landing: str, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each path is in the landing folder: one boolean per path."""
    return pc.starts_with(paths, absolute(landing).rstrip("/") + "/")


def landed(settings: Settings, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each path is in the landing folder, and not in the corrections folder, which may be hidden there."""
    return pc.and_not(below(settings.landing.folder, paths), below(settings.answers.corrections, paths))


def looked_at(settings: Settings, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether validation looks at each path: it is in the landing folder, or a photo of the corrections folder."""
    return pc.or_(below(settings.landing.folder, paths), below(f"{settings.answers.corrections}{PHOTOS}", paths))


def judged_under(limits: Limits) -> str:
    """What a verdict on a photo's bytes depends on, as bronze notes it: the recipe of the decoder and the limits."""
    return json.dumps({"recipe": RECIPE, **asdict(limits)}, sort_keys=True)


def compare(  # noqa: PLR0917 - two listings, a table at a version, and how to judge
    landing: str,
    listed: pa.Table,
    present: pa.Table,
    version: int,
    judged_under: str,
    corrections: Listing | None = None,
    *,
    retire_others: bool = False,
) -> LandingDiff:
    """Compare complete listings of the landing folder and of the corrections folder with bronze.

    Args:
        landing: the folder. Rows of other landing folders are not known here, and gone only if they are retired.
        listed: as returned by `listing`.
        present: `COMPARED` of the present rows of bronze at `version`.
        version: the version of bronze; -1 if there is no table.
        judged_under: as returned by the function. Files whose verdict was given under something else need a verdict.
        corrections: the corrections folder; None: it is not looked at, and its rows stay. Its photos are ours, so they are no loss.
        retire_others: count the rows of other landing folders as gone.
    """
    keys = list(KEY)
    ours = below_corrections(corrections, present["path"])
    here = pc.and_not(below(landing, present["path"]), ours)
    landed = listed
    if corrections is not None:
        listed = pa.concat_tables([listed, corrections.below(PHOTOS)])
    known, others = present.filter(pc.or_(here, ours)), present.filter(pc.invert(pc.or_(here, ours)))
    valid = known.filter(pc.fill_null(pc.equal(known["judged_under"], judged_under), False))
    new = listed.join(valid.select(keys), keys, join_type="left anti").select(keys).cast(_LISTED).sort_by("path")
    gone = known.join(listed, keys, join_type="left anti")
    vanished = pc.invert(pc.is_in(gone["path"], value_set=listed["path"]))
    retired = others if retire_others else others.slice(0, 0)
    ended = [_ended(gone, pc.if_else(vanished, VANISHED, REPLACED)), _ended(retired, pa.repeat(VANISHED, retired.num_rows))]
    return LandingDiff(
        new=new.append_column("known", _contains(known, new)),
        gone=pa.concat_tables(ended),
        listed=landed.num_rows,
        losses=losses(
            present.filter(here)["label"], gone.filter(pc.and_not(vanished, below_corrections(corrections, gone["path"])))["label"]
        ),
        elsewhere=others.num_rows - retired.num_rows,
        fingerprint=fingerprint(landing, landed, corrections),
        bronze_version=version,
        words=() if corrections is None else tuple(corrections.below(WORDS)["path"].to_pylist()),
        corrections_away=_away(ours, corrections),
    )


def below_corrections(corrections: Listing | None, paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each path is among the photos of the corrections folder: one boolean per path."""
    return pc.equal(paths, "") if corrections is None else below(f"{absolute(corrections.folder)}/{PHOTOS}", paths)


def _away(ours: pa.ChunkedArray, corrections: Listing | None) -> int:
    """How many photos of the corrections folder are known, where it lists none: then it is not mounted."""
    return 0 if corrections is None or corrections.below(PHOTOS).num_rows else pc.sum(ours).as_py() or 0


def fingerprint(landing: str, listed: pa.Table, corrections: Listing | None) -> str:
    """The fingerprint of all that validation looks at. While the corrections folder is empty, it is that of the landing folder."""
    of_landing = landing_fingerprint(landing, listed)
    if corrections is None or not corrections.files.num_rows:
        return of_landing
    of_corrections = landing_fingerprint(corrections.folder, corrections.files)
    return hashlib.sha256(f"{of_landing} {of_corrections}".encode()).hexdigest()


def _contains(known: pa.Table, files: pa.Table) -> pa.ChunkedArray:
    """Whether each file has a row. A path has at most one present row, and files of other versions are not among the known."""
    at = pc.index_in(files["path"], value_set=known["path"])
    same = [pc.equal(files[column], known[column].take(at)) for column in ("size", "modified")]
    return pc.fill_null(pc.and_(*same), False)


def _ended(rows: pa.Table, status: pa.ChunkedArray | pa.Array) -> pa.Table:
    return rows.select(list(KEY)).append_column("status", status).cast(_GONE)


def landing_fingerprint(landing: str, listed: pa.Table) -> str:
    """A fingerprint of the landing folder's content, which changes when a file is added, changed or removed.

    sha256, in hexadecimal, of one line per file, sorted by path: the path relative to the landing folder, NUL, size in
    bytes, NUL, modified time in whole seconds since 1970. Seconds, because some ways to list a volume are not more precise.
    """
    ordered = listed.take(pc.sort_indices(listed["path"]))
    relative = pc.utf8_slice_codeunits(ordered["path"], len(absolute(landing).rstrip("/")) + 1)
    seconds = pa.array(np.asarray(ordered["modified"].cast(pa.int64())) // 1_000_000)
    return digest_of_lines([relative, pc.cast(ordered["size"], pa.string()), pc.cast(seconds, pa.string())], "\0")


def _one_a_path(listed: pa.Table) -> pa.Table:
    """One row per path. Two names that are not UTF-8 may have the same path, which opens only one of the files."""
    if pc.count_distinct(listed["path"]).as_py() == listed.num_rows:
        return listed
    keys = list(KEY)
    ordered = listed.sort_by([(column, "ascending") for column in keys])
    return ordered.group_by("path").aggregate([("size", "min"), ("modified", "min")]).rename_columns(keys).cast(_LISTED)


def digest_of_lines(columns: Sequence[pa.Array | pa.ChunkedArray], separator: str, order: npt.NDArray[np.int64] | None = None) -> str:
    """sha256, in hexadecimal, of one line per row: the columns (strings without nulls), joined by the separator, and a newline.

    Args:
        columns: of (n) rows each.
        separator: between the columns.
        order: the rows in the order of the lines; None: as they are.
    """
    digest = hashlib.sha256()
    whole = [column if isinstance(column, pa.Array) else column.combine_chunks() for column in columns]
    for start in range(0, len(whole[0]), _LINES):
        end = min(start + _LINES, len(whole[0]))
        some = [column[start:end] if order is None else column.take(pa.array(order[start:end])) for column in whole]
        lines = pc.binary_join_element_wise(pc.binary_join_element_wise(*some, separator), "", "\n")
        _, offsets, text = lines.buffers()
        ends = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
        digest.update(memoryview(text)[ends[0] : ends[-1]])
    return digest.hexdigest()
