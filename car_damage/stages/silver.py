"""Stage silver: makes the silver table agree with bronze, and writes into bronze which photos silver does not use, and why.

It writes bronze first, then the table of splits, then silver. After a kill between two of them, the next run makes the same plan and
completes it: a split that is noted stays, and silver follows it. The commits require the versions from which the plan was made; when
another writer comes first, the plan is made again.
"""

import logging
import random
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.people.reviews import unnamed
from car_damage.data.photos import guard, ledger
from car_damage.data.photos.assignment import ASSIGNED
from car_damage.data.photos.silver import ADDED, BRONZE_COLUMNS, SilverPlan, plan
from car_damage.data.photos.silver import SILVER as ROW
from car_damage.data.photos.splits import TEST, TRAIN, VALIDATION
from car_damage.errors import CommitConflict, Terminal
from car_damage.photo.reasons import NO_LABEL, UNKNOWN_LABEL
from car_damage.pipeline import SilverReport, SilverRequest
from car_damage.ports import Platform
from car_damage.settings import Settings
from car_damage.stage import HOUR, Progress, Stage
from car_damage.stages.photos.labelling import labeller
from car_damage.stages.photos.words import of_photos, standing

ATTEMPTS = 5
"""Plans that are made while other writers come first."""
EXAMPLES = 3
"""Files that a report names for each reason."""
_DETAIL = 300
"""Characters of a detail in a report, which must stay small."""
_PART = 1 << 16
"""Photos that are labelled at once."""
_LABELLED = pa.schema([pa.field("label", pa.string()), pa.field("reason", pa.string())])
_READ = (*BRONZE_COLUMNS, "ingest_run")

_log = logging.getLogger(__name__)


def work(request: SilverRequest, platform: Platform, progress: Progress) -> SilverReport:
    """Do what the module describes.

    Raises:
        CommitConflict: other writers came first, again and again.
        LandingLost: too many photos of silver, or of one of its classes, would leave it, and the request does not allow it.
        Terminal: there is no bronze table.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return _update(request, platform, progress)
        except CommitConflict as error:
            _log.info("planning again, after attempt %d of %d: %s", attempt, ATTEMPTS, error)
            platform.clock.sleep(0.2 * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - spreads writers apart
    return _update(request, platform, progress)


def _update(request: SilverRequest, platform: Platform, progress: Progress) -> SilverReport:
    settings, tables = platform.settings, platform.tables
    present, bronze_version = tables.read(settings.tables.bronze, _READ)
    if bronze_version < request.bronze_version or bronze_version < 0:
        raise Terminal(
            f"{settings.tables.bronze} stands at version {bronze_version}, before version {request.bronze_version}: run validate first"
        )
    present = ledger.conform(present, ledger.BRONZE, _READ)
    present = present.filter(pc.is_in(present["status"], value_set=ledger.PRESENT))
    silver, silver_version = tables.read(settings.tables.silver, ROW.names, optional=ADDED)
    words, spoken_of = standing(platform)
    assigned, splits_version = tables.read(settings.tables.splits, ASSIGNED.names)
    here = ledger.landed(settings, present["path"])
    progress("silver", 0, 3, f"{present.num_rows:,} files")
    silver, assigned = ledger.conform(silver, ROW, ROW.names), ledger.conform(assigned, ASSIGNED, ASSIGNED.names)
    said = of_photos(present["sha256"], words, settings.labels.classes)
    planned = plan(present.select(BRONZE_COLUMNS), _labels(present, here, platform, said), silver, assigned, settings.split)
    if not request.allow_removals:
        _guard(silver, planned.rows, settings, spoken_of)

    if planned.verdicts.num_rows:
        bronze_version = tables.merge(settings.tables.bronze, planned.verdicts, ledger.KEY, base=bronze_version)
    progress("silver", 1, 3, f"{planned.verdicts.num_rows:,} verdicts noted in bronze")
    if planned.assigned.num_rows or splits_version < 0:
        tables.merge(settings.tables.splits, planned.assigned, ["sha256"], base=splits_version, once=["phash", "split"])
    progress("silver", 2, 3, f"{planned.assigned.num_rows:,} photos assigned to a split")
    if planned.upsert.num_rows or planned.remove.num_rows or silver_version < 0:
        silver_version = tables.merge(settings.tables.silver, planned.upsert, ["sha256"], remove=planned.remove, base=silver_version)
    progress("silver", 3, 3, f"{planned.rows.num_rows:,} photos for training")

    unused = _unused(planned, present, settings)
    examples = _examples(unused)
    return SilverReport(
        bronze_version=bronze_version,
        silver_version=silver_version,
        fingerprint=planned.fingerprint,
        rows=planned.rows.num_rows,
        added=planned.added,
        changed=planned.changed,
        removed=planned.remove.num_rows,
        files=pc.sum(here).as_py() or 0,
        rejected=_by_reason(unused),
        classes=_classes(planned, settings.labels.classes),
        rejected_now=_by_reason(unused.filter(pc.equal(unused["ingest_run"], request.flow_run))),
        examples=examples,
        details=_details(planned, present, [path for paths in examples.values() for path in paths], settings),
    )


def _guard(before: pa.Table, after: pa.Table, settings: Settings, spoken_of: pa.Array) -> None:
    """Photos of other folders, and those of which somebody has said what they show, leave only when a person says so, and do not count."""
    counts = [pc.and_not(ledger.landed(settings, rows["path"]), pc.is_in(rows["sha256"], value_set=spoken_of)) for rows in (before, after)]
    labels = [rows.filter(counted)["label"] for rows, counted in zip((before, after), counts, strict=True)]
    guard.check(
        guard.shrinkage(*labels),
        settings.landing.max_vanished_share,
        "from the training photos, because of what has changed in the landing folder, the labels or the limits",
        "The training photos stay as they were. If this is meant, run again with allow_removals",
    )


def _unused(planned: SilverPlan, present: pa.Table, settings: Settings) -> pa.Table:
    """path, reason, modified and ingest_run of the files of the landing folder that silver does not use; latest first."""
    unused = planned.unused.filter(ledger.landed(settings, planned.unused["path"]))
    # The few unused paths are looked for among all, and not the other way round, which would index all of them.
    rows = present.select(["path", "modified", "ingest_run"]).filter(pc.is_in(present["path"], value_set=unused["path"]))
    rows = rows.take(pc.index_in(unused["path"], value_set=rows["path"]))
    table = pa.table([unused["path"], unused["reason"], rows["modified"], rows["ingest_run"]], ["path", "reason", "modified", "ingest_run"])
    return table.sort_by([("modified", "descending"), ("path", "ascending")])


def _by_reason(unused: pa.Table) -> dict[str, int]:
    return dict(sorted(Counter(unused["reason"].to_pylist()).items()))


def _examples(unused: pa.Table) -> dict[str, tuple[str, ...]]:
    """Reason -> the first paths."""
    reasons = sorted(pc.unique(unused["reason"]).to_pylist())
    return {reason: tuple(unused.filter(pc.equal(unused["reason"], reason))["path"][:EXAMPLES].to_pylist()) for reason in reasons}


def _details(planned: SilverPlan, present: pa.Table, paths: list[str], settings: Settings) -> dict[str, str]:
    """Details as bronze holds them after this run: this run's verdicts replace those that it has read."""
    wanted, ours = pa.array(paths, pa.string()), settings.answers.corrections
    tables = [table.filter(pc.is_in(table["path"], value_set=wanted)).select(["path", "detail"]) for table in (present, planned.verdicts)]
    return {row["path"]: unnamed(row["detail"], ours)[:_DETAIL] for table in tables for row in table.to_pylist() if row["detail"]}


def _labels(present: pa.Table, here: pa.ChunkedArray, platform: Platform, said: pa.Table) -> pa.Table:
    """Labels by the present settings, and what people said; a photo of another landing folder keeps its label in bronze."""
    fresh = _fresh_labels(present["path"].filter(here), platform)
    is_class = pc.is_in(present["label"], value_set=pa.array(platform.settings.labels.classes))
    unknown = pc.fill_null(pc.equal(present["reason"], UNKNOWN_LABEL), False)
    why = pc.if_else(pc.is_null(present["label"]), pc.if_else(unknown, UNKNOWN_LABEL, NO_LABEL), UNKNOWN_LABEL)
    kept = {"label": pc.if_else(is_class, present["label"], None), "reason": pc.if_else(is_class, None, why)}
    mask = here.combine_chunks()
    whole = {name: column.cast(pa.string()).combine_chunks() for name, column in kept.items()}
    labels = {name: pc.replace_with_mask(whole[name], mask, fresh[name].combine_chunks()) for name in _LABELLED.names}
    return pa.table({**labels, "elsewhere": pc.invert(mask), **{name: said[name] for name in said.column_names}})


def _fresh_labels(paths: pa.ChunkedArray, platform: Platform) -> pa.Table:
    """The label of each path, or the reason why there is none. Only a part of the paths exists as texts of Python at once."""
    parts = [_LABELLED.empty_table()]
    if len(paths):
        label = labeller(platform)
        for start in range(0, len(paths), _PART):
            found = label.labels(paths[start : start + _PART].to_pylist())
            parts.append(pa.table([[one.label for one in found], [one.reason for one in found]], schema=_LABELLED))
    return pa.concat_tables(parts)


def _classes(planned: SilverPlan, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Label -> split -> rows, in the order of the classes, with zeros."""
    counted = planned.rows.group_by(["label", "split"]).aggregate([([], "count_all")]).to_pylist()
    counts = Counter({(row["label"], row["split"]): row["count_all"] for row in counted})
    names = [*classes, *sorted({label for label, _ in counts} - set(classes))]
    return {label: {split: counts[label, split] for split in (TRAIN, VALIDATION, TEST)} for label in names}


STAGE: Stage[SilverRequest, SilverReport] = Stage("silver", SilverRequest, SilverReport, work, job="ingest", deadline=1.5 * HOUR)
