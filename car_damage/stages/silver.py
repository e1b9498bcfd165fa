"""Stage silver: bring the silver table up to bronze, and note in bronze which photos it does not use, and why.

Bronze first, then silver: a kill between the two leaves verdicts that the next run finds as it would make them,
and a silver table that it then completes. Both commits stand on the versions that the plan was made from; when
another writer comes first, the plan is made again.
"""

import random
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from car_damage import ledger
from car_damage.errors import CommitConflict, Terminal
from car_damage.pipeline import Progress, SilverReport, SilverRequest, Stage
from car_damage.ports import Platform
from car_damage.reasons import NO_LABEL
from car_damage.split import BRONZE_COLUMNS, TEST, TRAIN, VALIDATION, SilverPlan, plan
from car_damage.split import SILVER as ROW
from car_damage.stages.labelling import labeller

EXAMPLES = 3
"""Files a reason that the report names."""
ATTEMPTS = 5
"""Times that a plan is made while other writers come first."""


def work(request: SilverRequest, platform: Platform, progress: Progress) -> SilverReport:
    """See the module.

    Raises:
        CommitConflict: other writers came first, again and again.
        Terminal: there is no bronze table.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return _bring_up(request, platform, progress)
        except CommitConflict:
            platform.clock.sleep(0.2 * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - spreads writers apart
    return _bring_up(request, platform, progress)


def _bring_up(request: SilverRequest, platform: Platform, progress: Progress) -> SilverReport:
    settings, tables = platform.settings, platform.tables
    bronze, bronze_version = tables.read(settings.tables.bronze, BRONZE_COLUMNS)
    if bronze_version < request.bronze_version or bronze_version < 0:
        raise Terminal(
            f"{settings.tables.bronze} stands at version {bronze_version}, before version {request.bronze_version}: run validate first"
        )
    silver, silver_version = tables.read(settings.tables.silver, ROW.names)
    present = ledger.conform(bronze, ledger.BRONZE, BRONZE_COLUMNS)
    present = present.filter(pc.is_in(present["status"], value_set=ledger.PRESENT))
    here = ledger.below(settings.landing.folder, present["path"])
    progress("silver", 0, 2, f"{present.num_rows:,} files")
    planned = plan(present, _labels(present, here, platform), ledger.conform(silver, ROW, ROW.names), settings.split)

    if planned.verdicts.num_rows:
        bronze_version = tables.merge(settings.tables.bronze, planned.verdicts, ledger.KEY, base=bronze_version)
    progress("silver", 1, 2, f"{planned.verdicts.num_rows:,} verdicts noted in bronze")
    if planned.upsert.num_rows or planned.remove.num_rows or silver_version < 0:
        silver_version = tables.merge(settings.tables.silver, planned.upsert, ["sha256"], remove=planned.remove, base=silver_version)
    progress("silver", 2, 2, f"{planned.rows.num_rows:,} photos for training")

    unused = planned.unused.filter(ledger.below(settings.landing.folder, planned.unused["path"]))
    return SilverReport(
        bronze_version=bronze_version,
        silver_version=silver_version,
        fingerprint=planned.fingerprint,
        rows=planned.rows.num_rows,
        added=planned.added,
        changed=planned.changed,
        removed=planned.remove.num_rows,
        files=pc.sum(here).as_py() or 0,
        rejected=dict(sorted(Counter(unused["reason"].to_pylist()).items())),
        classes=_classes(planned, settings.labels.classes),
        examples=_examples(unused, present),
    )


def _labels(present: pa.Table, here: pa.ChunkedArray, platform: Platform) -> pa.Table:
    """Labels by the settings as they are; a photo of another landing folder keeps what bronze says."""
    labelled = labeller(platform).labels(present["path"].filter(here).to_pylist()) if pc.any(here).as_py() else []
    kept = {"label": present["label"], "reason": pc.if_else(pc.is_null(present["label"]), pc.coalesce(present["reason"], NO_LABEL), None)}
    fresh = {"label": [one.label for one in labelled], "reason": [one.reason for one in labelled]}
    mask = pa.concat_arrays([pa.array([], pa.bool_()), *here.chunks])
    return pa.table(
        {name: pc.replace_with_mask(_whole(kept[name]), mask, pa.array(fresh[name], pa.string())) for name in ("label", "reason")}
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([pa.array([], pa.string()), *column.cast(pa.string()).chunks])


def _examples(unused: pa.Table, present: pa.Table) -> dict[str, tuple[str, ...]]:
    """Reason -> its latest files."""
    modified = present["modified"].take(pc.index_in(unused["path"], value_set=present["path"]))
    latest = unused.append_column("modified", modified).sort_by([("modified", "descending"), ("path", "ascending")])
    reasons = pc.unique(latest["reason"]).to_pylist()
    paths = {reason: latest.filter(pc.equal(latest["reason"], reason)).slice(0, EXAMPLES)["path"].to_pylist() for reason in reasons}
    return {reason: tuple(paths[reason]) for reason in sorted(paths)}


def _classes(planned: SilverPlan, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Label -> split -> rows, in the order of the classes, with zeros."""
    counted = planned.rows.group_by(["label", "split"]).aggregate([([], "count_all")]).to_pylist()
    counts = Counter({(row["label"], row["split"]): row["count_all"] for row in counted})
    names = [*classes, *sorted({label for label, _ in counts} - set(classes))]
    return {label: {split: counts[label, split] for split in (TRAIN, VALIDATION, TEST)} for label in names}


SILVER: Stage[SilverRequest, SilverReport] = Stage("silver", SilverRequest, SilverReport, work)
