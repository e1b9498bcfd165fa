"""What a person wants to see of each stage in the Prefect UI."""

import base64
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from car_damage.errors import Terminal
from car_damage.moves import Move
from car_damage.outcome import approve
from car_damage.pipeline import EndpointReport, RegisterReport, RegisterRequest, SilverReport, TrainReport, ValidateReport
from car_damage.ports import Platform, Tracking
from car_damage.promotion import AWAIT, KEEP, PROMOTE
from car_damage.settings import Serving
from car_damage.stages.register import evidence_file, picture_of
from car_damage.stages.train import CONFUSION_MATRIX_FILE, TRAINING_CURVE_FILE, WORST_MISTAKES_FILE

LATEST_MOVES = 20
BAR = 24
"""Letters of the longest bar."""
DECIDED = {PROMOTE: "promote", AWAIT: "waits for approval", KEEP: "keep the champion"}
PICTURES = {
    TRAINING_CURVE_FILE: "How the training went",
    CONFUSION_MATRIX_FILE: "Test photos by class",
    WORST_MISTAKES_FILE: "Worst mistakes",
}


def landed(report: ValidateReport) -> None:
    """What this run decided on the files that it had not seen."""
    rows: list[dict[str, Any]] = [{"verdict": "accepted", "reason": "", "files": report.accepted}]
    rows += [{"verdict": "rejected", "reason": reason, "files": files} for reason, files in sorted(report.rejected.items())]
    rows += [{"verdict": "could not be read", "reason": path, "files": 1} for path in report.unreadable]
    if report.replaced or report.vanished:
        rows.append({"verdict": "replaced", "reason": "another version of the file is there", "files": report.replaced})
        rows.append({"verdict": "vanished", "reason": "the file is not there any more", "files": report.vanished})
    create_table_artifact(
        rows, key="landed", description=f"{report.new} new of {report.listed} files; bronze version {report.bronze_version}"
    )


def training_photos(report: SilverReport) -> None:
    """Class balance by split."""
    classes = list(report.classes)
    splits = ("train", "validation", "test")
    lines = [f"| class | {' | '.join(splits)} | all | |", "|---|---:|---:|---:|---:|---|"]
    most = max((sum(report.classes[name].values()) for name in classes), default=0)
    for name in classes:
        counts = [report.classes[name].get(split, 0) for split in splits]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} | {sum(counts)} | {_bar(sum(counts), most)} |")
    lines += ["", f"Silver version {report.silver_version}: {report.added} added, {report.changed} changed, {report.removed} removed."]
    create_markdown_artifact("\n".join(lines), key="training-photos", description=f"{report.rows} training photos of {report.files} files")


def trained(report: TrainReport, tracking: Tracking) -> None:
    """Metrics and pictures of the training run."""
    url = tracking.url(report.run_id)
    lines = [f"MLflow run {f'[{report.run_id}]({url})' if url else f'`{report.run_id}`'}", "", "| metric | value |", "|---|---:|"]
    lines += [f"| {name} | {value:.4g} |" for name, value in sorted(report.metrics.items())]
    for file, title in PICTURES.items():
        lines += ["", f"### {title}", _picture(tracking.fetch(report.run_id, file), title)]
    create_markdown_artifact("\n".join(lines), key="model", description="The trained model on photos that it has not seen")


def decided(request: RegisterRequest, report: RegisterReport, platform: Platform) -> None:
    """The decision, its reasons, the numbers side by side, and where a person has to speak, the command."""
    classes, evidence = platform.settings.labels.classes, report.evidence
    against = f"champion {report.champion}" if report.champion else "no champion"
    dry_run = request.dry_run and not report.decided_before
    heading = f"{'Dry run, version' if dry_run else 'Version'} {report.version}: {DECIDED[report.decision]}"
    lines = [f"## {heading}", "", *(f"- {reason}" for reason in report.reasons), ""]
    if report.decision == AWAIT and not dry_run:
        as_long = f"as long as {against} is live" if report.champion else "as long as no other is"
        lines += [f"**It waits for a person's approval.** To take it live, {as_long}:", "", f"```\n{approve(report.version)}\n```", ""]
    lines += [f"| {evidence['test_photos']} test photos | version {report.version} | {against} |", "|---|---:|---:|"]
    for title, name in (("macro-F1", "macro_f1"), ("cost of its mistakes, a photo", "cost")):
        lines.append(f"| {title} | {_number(evidence[f'candidate_{name}'])} | {_number(evidence[f'champion_{name}'])} |")
    recalls = evidence["candidate_recall"], evidence["champion_recall"] or {}
    lines += [f"| recall of {name} | {_number(recalls[0].get(name))} | {_number(recalls[1].get(name))} |" for name in classes]
    if evidence["gain_interval"]:
        low, high = evidence["gain_interval"]
        lines += [
            "",
            f"Gain {evidence['gain']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}, ahead in {evidence['confidence']:.0%} of resamples.",
        ]
    file = picture_of(evidence_file(report.version, dry_run))
    lines += ["", _picture(platform.tracking.fetch(request.run_id, file), "Test photos by true and predicted class")]
    create_markdown_artifact("\n".join(lines), key="decision", description=heading)


def served(report: EndpointReport, serving: Serving) -> None:
    """What answers now."""
    latency = f"{1000 * report.latency:.0f} ms" if report.latency is not None else "not asked"
    rows = [
        {
            "endpoint": serving.endpoint,
            "state": report.state,
            "version": report.champion,
            "smoke photo": latency,
            "what happened": report.message,
        }
    ]
    create_table_artifact(rows, key="endpoint", description=f"{serving.endpoint}: {report.outcome}")


def not_served(error: Terminal, serving: Serving) -> None:
    """Why the endpoint was not updated, and what it does instead."""
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
    create_table_artifact(rows, key="champion-history", description=f"The champion's history: {len(rows)} of {len(moves)} moves")


def _picture(png: bytes, title: str) -> str:
    # As a data: URI, because that is what the default UI shows.
    return f"![{title}](data:image/png;base64,{base64.b64encode(png).decode()})"


def _bar(count: int, most: int) -> str:
    return "█" * round(BAR * count / most) if most else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
