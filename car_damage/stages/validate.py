"""Stage validate: gives a verdict on every file that bronze has not seen, marks in bronze the files that are gone, and takes up what people
have said about photos.

A verdict is given again when the limits or the decoder have changed, or when a run has found that the file's bytes have. One commit
writes all, so bronze always agrees with one listing of the folder. A file that could not be read gets no
verdict, and the next run tries it again. With nothing new and nothing gone, nothing is written. The photos of the corrections folder get
rows like all others; its words become rows of the table of reviews, see `car_damage.data.people.reviews`.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.forgotten import marked
from car_damage.data.people.reviews import unnamed
from car_damage.data.photos import guard, ledger
from car_damage.data.photos.labels import Labeller, LabelResult
from car_damage.errors import LandingLost
from car_damage.machine import absolute
from car_damage.photo.decoder import Inspection, fatal, inspect, oversize
from car_damage.photo.limits import Limits
from car_damage.photo.reasons import FORGOTTEN
from car_damage.pipeline import UNREADABLE_SHOWN, ValidateReport, ValidateRequest, silver_request
from car_damage.ports import LandingDiff, Platform
from car_damage.settings import Settings
from car_damage.stage import HOUR, Next, Progress, Stage
from car_damage.stages.photos.labelling import labeller
from car_damage.stages.photos.words import take_up
from car_damage.traces.marks import marks as forgotten_marks

_log = logging.getLogger(__name__)

_COLUMNS = ("sha256", "phash", "label", "status", "reason", "detail", "format", "width", "height")
_ROW = pa.schema([ledger.BRONZE.field(column) for column in _COLUMNS])


@dataclass(frozen=True)
class Verdict:
    """The work on one file, which can be sent to a cluster: from its path and bytes to its part of a bronze row."""

    limits: Limits
    labeller: Labeller
    unlabelled: str
    """The corrections folder. Its names say nothing: people do, and silver hears them."""

    def __call__(self, path: str, data: bytes) -> Mapping[str, Any]:
        return self.row(path, inspect(data, self.limits))

    def fatal(self, path: str, data: bytes, why: str) -> Mapping[str, Any]:
        return self.row(path, fatal(data, why))

    def row(self, path: str, inspection: Inspection) -> Mapping[str, Any]:
        """A reason of the photo comes before a reason of its label."""
        labelled = LabelResult(None, None) if path.startswith(self.unlabelled) else self.labeller.label(path)
        reason = inspection.reason or labelled.reason
        return {
            "sha256": inspection.sha256,
            "phash": inspection.phash,
            "label": labelled.label,
            "status": ledger.REJECTED if reason else ledger.VALID,
            "reason": reason,
            "detail": inspection.detail or None,
            "format": inspection.format,
            "width": inspection.width,
            "height": inspection.height,
        }


def work(request: ValidateRequest, platform: Platform, progress: Progress) -> ValidateReport:
    """Do what the module describes.

    Raises:
        LandingLost: too many known photos have vanished, or all corrections, and the request does not allow it.
        SettingsError: the landing folder is not there.
        Unavailable: it cannot be listed completely.
    """
    settings, tables = platform.settings, platform.tables
    under = ledger.judged_under(settings.images.limits())
    corrections = settings.answers.corrections
    landed = tables.compare_landing(
        settings.landing.folder, settings.tables.bronze, under, corrections, retire_others=request.retire_other_folders
    )
    if not request.allow_removals:
        _guard(landed, settings)
    if landed.elsewhere:
        _log.warning(
            "%d photos of other folders than %s are still used; retire_other_folders takes them out",
            landed.elsewhere,
            settings.landing.folder,
        )
    judged, unreadable = _judge(landed.new, request, platform, progress) if landed.new.num_rows else (ledger.BRONZE.empty_table(), [])
    judged = _without_forgotten(judged, forgotten_marks(platform), platform)  # those of this moment: the verdicts may have taken hours
    first = judged.filter(pc.is_in(judged["path"], value_set=landed.new.filter(pc.invert(landed.new["known"]))["path"]))
    gone = _gone(landed, platform)
    was_forgotten = pc.fill_null(pc.equal(gone["reason"], FORGOTTEN), False)
    rows = pa.concat_tables([judged, gone.filter(pc.invert(was_forgotten))])
    version, over = landed.bronze_version, gone.filter(was_forgotten)  # not even their paths are kept longer than the files
    if rows.num_rows or over.num_rows or version < 0:
        version = tables.merge(settings.tables.bronze, rows, ledger.KEY, remove=over)
    words = take_up(landed.words, platform, forgotten_marks(platform))
    reasons = pc.value_counts(first["reason"].drop_null()).to_pylist()
    statuses = landed.gone["status"].to_pylist()
    return ValidateReport(
        listed=landed.listed,
        accepted=pc.sum(pc.equal(first["status"], ledger.VALID)).as_py() or 0,
        rejected={count["values"]: count["counts"] for count in sorted(reasons, key=lambda count: str(count["values"]))},
        unreadable=tuple(unnamed(path, corrections) for path in unreadable[:UNREADABLE_SHOWN]),
        unreadable_count=len(unreadable),
        replaced=statuses.count(ledger.REPLACED),
        vanished=statuses.count(ledger.VANISHED),
        bronze_version=version,
        landing_fingerprint=landed.fingerprint,
        judged_again=judged.num_rows - first.num_rows,
        elsewhere=landed.elsewhere,
        words=words,
    )


def _guard(landed: LandingDiff, settings: Settings) -> None:
    if landed.corrections_away:
        raise LandingLost(
            f"the corrections folder {settings.answers.corrections} has no photo, and {landed.corrections_away:,} are known. Nothing was "
            "written. Mount it; if it was emptied on purpose, run again with allow_removals"
        )
    guard.check(
        landed.losses,
        settings.landing.max_vanished_share,
        f"from the landing folder, which now lists {landed.listed}",
        "Nothing was written. If the folder is mounted and the photos were removed on purpose, run again with allow_removals",
    )


def _judge(new: pa.Table, request: ValidateRequest, platform: Platform, progress: Progress) -> tuple[pa.Table, list[str]]:
    """The rows of files that could be read, and the paths of those that could not."""
    limits = platform.settings.images.limits()
    verdict = Verdict(limits, labeller(platform), absolute(platform.settings.answers.corrections) + "/")
    too_large = pc.greater(new["size"], limits.max_bytes)
    readable = new.filter(pc.invert(too_large))
    total = readable.num_rows
    every = max(1, total // 100)
    shown = 0

    def tick(done: int) -> None:
        nonlocal shown
        if done == total or done - shown >= every:
            shown = done
            progress("validate", done, total)

    judged = platform.tables.each(readable, verdict, _ROW, tick)
    unread = pc.is_valid(judged["unreadable"])
    unreadable = sorted(judged["path"].filter(unread).to_pylist())
    if unreadable:
        why = unnamed(pc.min(judged["unreadable"]).as_py(), platform.settings.answers.corrections)
        _log.warning("%d of %d new files could not be read; the next run tries them again. One of them: %s", len(unreadable), total, why)
    large = new.filter(too_large).select(["path", "size"]).to_pylist()
    large_rows = [{"path": file["path"], **verdict.row(file["path"], oversize(file["size"], limits))} for file in large]
    schema = pa.schema([ledger.BRONZE.field("path"), *_ROW])
    rows = pa.concat_tables(
        [judged.filter(pc.invert(unread)).select(schema.names).cast(schema), pa.Table.from_pylist(large_rows, schema=schema)]
    )
    keys = new.take(pc.index_in(rows["path"], value_set=new["path"]))
    columns = {name: keys[name] if name in ledger.KEY else rows[name] for name in (*ledger.KEY, *_COLUMNS)}
    now = pa.scalar(platform.clock.now(), ledger.INSTANT)
    columns |= {"ingest_run": pa.repeat(request.flow_run, rows.num_rows), "ingested": pa.repeat(now, rows.num_rows)}
    columns["judged_under"] = pa.repeat(ledger.judged_under(limits), rows.num_rows)
    return pa.table(columns).select(ledger.BRONZE.names).cast(ledger.BRONZE), unreadable


def _without_forgotten(judged: pa.Table, marks: Collection[str], platform: Platform) -> pa.Table:
    """The verdicts, where that on a forgotten photo says nothing of it. In the corrections folder, which is ours, its file goes."""
    theirs = marked(judged["sha256"], marks)
    if not pc.any(theirs).as_py():
        return judged
    ours = pc.and_(theirs, ledger.below(platform.settings.answers.corrections, judged["path"]))
    for path in judged.filter(ours)["path"].to_pylist():
        platform.files.remove(path)
    said = {"status": ledger.REJECTED, "reason": FORGOTTEN}
    for name in _COLUMNS:
        place, field = judged.schema.get_field_index(name), judged.schema.field(name)
        value = pa.scalar(said.get(name), field.type)
        judged = judged.set_column(place, field, pc.if_else(theirs, value, judged[name]))
    return judged.filter(pc.invert(ours))


def _gone(landed: LandingDiff, platform: Platform) -> pa.Table:
    """Whole rows of the files that are gone, so that one commit writes them together with the new ones."""
    if not landed.gone.num_rows:
        return ledger.BRONZE.empty_table()
    before, _ = platform.tables.read(platform.settings.tables.bronze, ledger.BRONZE.names, landed.bronze_version, optional=ledger.ADDED)
    rows = ledger.conform(before, ledger.BRONZE, ledger.BRONZE.names).drop_columns(["status"])
    gone = rows.join(landed.gone, list(ledger.KEY), join_type="inner")
    return gone.select(ledger.BRONZE.names).cast(ledger.BRONZE)


STAGE: Stage[ValidateRequest, ValidateReport] = Stage(
    "validate",
    ValidateRequest,
    ValidateReport,
    work,
    job="ingest",
    deadline=3.5 * HOUR,
    next=Next("silver", lambda request, report, options: silver_request(request, report)),
)
