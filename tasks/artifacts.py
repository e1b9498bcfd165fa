"""Shows the report of each stage in the Prefect UI."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from car_damage.data.photos.splits import SPLITS
from car_damage.errors import Terminal
from car_damage.model.run_files import (
    CONFUSION_MATRIX_FILE,
    RELIABILITY_FILE,
    REPORT_FILE,
    TRAINING_CURVE_FILE,
    WORST_MISTAKES_FILE,
    confusion_plot_file,
    evidence_file,
)
from car_damage.moves import Move
from car_damage.pipeline import (
    AWAIT,
    KEEP,
    PROMOTE,
    EndpointReport,
    Evidence,
    ForgetReport,
    RegisterReport,
    RegisterRequest,
    ScoreReport,
    SilverReport,
    TidyReport,
    TrainReport,
    ValidateReport,
)
from car_damage.ports import Platform, Tracking
from car_damage.promotion.tags import APPROVAL
from car_damage.settings import Serving
from car_damage.traces import certificate
from tasks import commands, doubtful_labels
from tasks.markdown import picture, plain, table
from tasks.progress import if_possible

LATEST_MOVES, WORST_GROUPS = 20, 10
DECIDED = {PROMOTE: "promote", AWAIT: "waits for approval", KEEP: "keep the champion"}
PICTURES = {
    TRAINING_CURVE_FILE: "How the training went",
    CONFUSION_MATRIX_FILE: "Test photos by class",
    WORST_MISTAKES_FILE: "Worst mistakes",
    RELIABILITY_FILE: "How far probabilities can be believed",
}


def landed(report: ValidateReport) -> None:
    """The verdicts of this run."""
    rows: list[dict[str, Any]] = [{"verdict": "accepted", "reason": "", "files": report.accepted}]
    rows += [{"verdict": "rejected", "reason": reason, "files": files} for reason, files in sorted(report.rejected.items())]
    rows += [{"verdict": "could not be read", "reason": path, "files": 1} for path in report.unreadable]
    if report.judged_again:
        rows.append({"verdict": "judged again", "reason": "the limits, the decoder or the file have changed", "files": report.judged_again})
    if report.elsewhere:
        rows.append({"verdict": "of another folder", "reason": "used until retire_other_folders is said", "files": report.elsewhere})
    if report.replaced or report.vanished:
        rows.append({"verdict": "replaced", "reason": "another version of the file is there", "files": report.replaced})
        rows.append({"verdict": "vanished", "reason": "the file is not there any more", "files": report.vanished})
    create_table_artifact(
        rows, key="landed", description=f"{report.new} new of {report.listed} files; bronze version {report.bronze_version}"
    )


def training_photos(report: SilverReport) -> None:
    """Class balance by split. The artifact `data-quality` has the files that are not used, and why."""
    counts = {name: [by_split.get(split, 0) for split in SPLITS] for name, by_split in report.classes.items()}
    rows = [(plain(name), *(f"{photos:,}" for photos in (*row, sum(row)))) for name, row in counts.items()]
    lines = table(("class", *SPLITS, "all"), rows, "lrrrr")
    lines += ["", f"Silver version {report.silver_version}: {report.added} added, {report.changed} changed, {report.removed} removed.", ""]
    lines += _class_balance(report)
    create_markdown_artifact("\n".join(lines), key="training-photos", description=f"{report.rows} training photos of {report.files} files")


def trained(report: TrainReport, tracking: Tracking) -> None:
    """Metrics by split, and pictures of the training run."""
    url, epochs = tracking.url(report.run_id), int(report.metrics.get("epochs", 0))
    pictures = {file: title for file, title in PICTURES.items() if epochs or file != TRAINING_CURVE_FILE}
    lines = [
        f"MLflow run {f'[{report.run_id}]({url})' if url else f'`{report.run_id}`'}{f', {epochs} epochs' if epochs else ''}.",
        f"How good it is, by class and by group, with intervals and mistakes: {_report(report, tracking)}.",
        "",
    ]
    if report.left_out_count:
        lines += [
            f"{report.left_out_count:,} photos were left out, because they have changed or cannot be read, such as `{report.left_out[0]}`.",
            "",
        ]
    lines += _by_split(report.metrics)
    for file, title in pictures.items():
        with if_possible(title):
            lines += ["", f"### {title}", picture(tracking.fetch(report.run_id, file), title)]
    with if_possible(doubtful_labels.TITLE):
        lines += ["", f"### {doubtful_labels.TITLE}", *doubtful_labels.lines(report.run_id, tracking)]
    create_markdown_artifact("\n".join(lines), key="model", description="The trained model on photos that it has not seen")


def _report(report: TrainReport, tracking: Tracking) -> str:
    url = tracking.url(report.run_id, REPORT_FILE)
    return f"[{REPORT_FILE}]({url})" if url else f"`{REPORT_FILE}` of this run"


def decided(request: RegisterRequest, report: RegisterReport, platform: Platform) -> None:
    """The decision, its reasons, the numbers side by side, and the command where a person must approve."""
    classes, evidence = platform.settings.labels.classes, report.evidence
    against = f"champion {report.champion}" if report.champion else "no champion"
    dry_run = request.dry_run and not report.decided_before
    heading = f"{'Dry run, version' if dry_run else 'Version'} {report.version}: {DECIDED[report.decision]}"
    lines = [f"## {heading}", "", *(f"- {reason}" for reason in report.reasons), ""]
    if report.decision == AWAIT and not dry_run:
        as_long = f"as long as {against} is live" if report.champion else "as long as no other is"
        lines += [
            f"**It waits for a person's approval.** To take it live, {as_long}:",
            "",
            f"```\n{commands.promote(report.version)}\n```",
            "",
            f"Or approve it on its page in the registry: with the button Approve, or the tag `{APPROVAL}` with the value `Approved`.",
            "",
        ]
    if evidence is not None:
        lines += _scores(evidence, report.version, against, classes)
    with if_possible("the confusion matrices"):
        file = confusion_plot_file(evidence_file(report.version, dry_run))
        lines += ["", picture(platform.tracking.fetch(request.run_id, file), "Test photos by true and predicted class")]
    create_markdown_artifact("\n".join(lines), key="decision", description=heading)


def _scores(evidence: Evidence, version: int, against: str, classes: Sequence[str]) -> list[str]:
    """The candidate's numbers beside the champion's, as a table."""
    from car_damage.promotion.rule import percent

    candidate, champion = evidence.candidate, evidence.champion
    rows = [
        ("macro-F1", candidate.macro_f1, champion.macro_f1 if champion else None),
        ("cost of its mistakes, a photo", candidate.cost, champion.cost if champion else None),
    ]
    rows += [(f"recall of {name}", candidate.recall.get(name), champion.recall.get(name) if champion else None) for name in classes]
    rows += [
        (f"macro-F1 of {name}, {evidence.groups[name]} photos", score, champion.groups.get(name) if champion else None)
        for name, score in sorted(candidate.groups.items(), key=lambda group: group[1])[:WORST_GROUPS]
    ]
    lines = [f"| {evidence.test_photos} test photos | version {version} | {against} |", "|---|---:|---:|"]
    lines += [f"| {title} | {_number(mine)} | {_number(theirs)} |" for title, mine, theirs in rows]
    if comparison := evidence.comparison:
        low, high = comparison.interval
        sure = f"confidence {percent(comparison.confidence)}, candidate {evidence.looks} since the champion was chosen"
        lines += ["", f"Gain {comparison.gain:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, {sure}."]
    if champion and champion.interval:
        low, high = champion.interval
        known = "all" if evidence.fresh == evidence.test_photos else evidence.fresh
        of_them = "it is unknown how many" if known is None else known
        since = f"; {of_them} of the photos arrived after it was chosen"
        lines += ["", f"The champion's macro-F1 is {champion.macro_f1:.3f}, 95 % interval {low:.3f} to {high:.3f}{since}."]
    if evidence.excluded:
        lines += [
            "",
            f"{evidence.excluded} test photos were left out: one of the models was trained on them, or on photos that resemble them.",
        ]
    return lines


def served(report: EndpointReport, serving: Serving) -> None:
    """The state of the endpoint."""
    version = f"version {report.champion}" if report.champion else "no version"
    latency = f"{1000 * report.latency:.0f} ms" if report.latency is not None else "not measured"
    rows = [
        {
            "endpoint": serving.endpoint,
            "state": report.state,
            "version": report.champion,
            "smoke photo": latency,
            "what happened": report.message,
        }
    ]
    create_table_artifact(rows, key="endpoint", description=f"{serving.endpoint}: {version}, {report.outcome}")


def scored(report: ScoreReport, where: str) -> None:
    """How many photos have each answer, and which files the version refused."""
    rows: list[dict[str, Any]] = [{"answer": label, "photos": photos, "which": ""} for label, photos in report.labels.items()]
    rows += [{"answer": f"refused: {why}", "photos": 1, "which": path} for path, why in report.examples.items()]
    if more := report.refused - len(report.examples):
        rows.append({"answer": "refused", "photos": more, "which": "see the column refused"})
    rows += [{"answer": "could not be read", "photos": 1, "which": path} for path in report.unreadable]
    create_table_artifact(
        rows,
        key="predictions",
        description=f"Version {report.version} on {report.source}; in {where}, version {report.predictions_version}",
    )


def tidied(report: TidyReport) -> None:
    """What was removed."""
    rows = [{"what": of.kind, "which": of.name, "items": of.items, "bytes": of.bytes} for of in report.leftovers]
    if rows:
        create_table_artifact(rows, key="tidied", description=f"{report.bytes:,} bytes freed")


def forgotten(report: ForgetReport) -> None:
    """The certificate of a photo that was forgotten."""
    rows = [(plain(of.place), plain(of.what), f"{of.items:,}", plain(of.stays or "removed")) for of in report.found]
    lines = [
        *(f"{plain(line, 2000)}\n" for line in certificate.lines(report)),
        *table(("where", "what", "how many", "what became of it"), rows, "llrl"),
    ]
    create_markdown_artifact("\n".join(lines), key="forgotten", description=f"Mark {report.mark}")


def not_served(error: Terminal, serving: Serving) -> None:
    """Why the endpoint was not updated, and what it serves."""
    create_markdown_artifact(f"## The endpoint was not updated\n\n```\n{error}\n```", key="endpoint-failure", description=serving.endpoint)


def history(moves: Sequence[Move], tracking: Tracking) -> None:
    """The latest promotions and rollbacks."""
    rows = [
        {
            "when (UTC)": f"{move.started:%Y-%m-%d %H:%M}",
            "what": move.intention.kind,
            "from": move.intention.replaces,
            "to": move.intention.version,
            "state": move.state,
            "by": move.intention.by,
            "why": move.failure or move.intention.reason,
            "MLflow run": tracking.url(move.run_id) or move.run_id,
        }
        for move in moves[:LATEST_MOVES]
    ]
    create_table_artifact(rows, key="champion-history", description=f"The champion's latest moves: {len(rows)} of {len(moves)}")


def _by_split(metrics: Mapping[str, float]) -> list[str]:
    """`test_macro_f1` and its like as a table: a row a metric, a column a split. The report has the groups."""
    named = [name.partition("_")[::2] for name in metrics if "_macro_f1_group_" not in name]
    rows = sorted({what for split, what in named if split in SPLITS})
    cells = [[metrics.get(f"{split}_{what}") for split in SPLITS] for what in rows]
    shown = [["" if value is None else f"{value:.4g}" for value in row] for row in cells]
    return table(("metric", *SPLITS), [(plain(what.replace("_", " ")), *row) for what, row in zip(rows, shown, strict=True)], "lrrr")


def _class_balance(report: SilverReport) -> list[str]:
    """A chart. Nothing without matplotlib, as on a worker whose training runs elsewhere."""
    if not report.classes:
        return []
    from car_damage.model.quality import plots

    try:
        return [picture(plots.class_balance(report.classes), "Photos by class and split")]
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        return []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
