"""Shows in the Prefect UI what the flow monitor has seen."""

from typing import Any

from prefect.artifacts import create_markdown_artifact

from car_damage.model.run_files import MONITORING_FILES
from car_damage.pipeline import MonitorReport
from car_damage.ports import Platform
from tasks.degradation import told, what_next
from tasks.markdown import picture, plain, table
from tasks.progress import if_possible

HEADER = ("window (UTC)", "photos", "for a person", "macro-F1, estimated", "macro-F1, labelled", "p95 ms", "errors", "unusual")


def latest_windows(report: MonitorReport, platform: Platform) -> None:
    """The latest windows of the live version, with their plot. Nothing where there is no new one."""
    if not report.windows or report.version is None:
        return
    url = platform.tracking.url(report.run_id)
    run = f"[MLflow run]({url})" if url else f"MLflow run `{report.run_id}`"
    heading = f"Version {report.version}: {f'worse, {report.how_much}' if report.alarm else 'no alarm'}"
    lines = [f"## {heading}", ""]
    if report.alarm:
        lines += [what_next(report, platform.settings, told(report.version)), ""]
    lines += table(HEADER, [_row(one) for one in report.latest], "lrrrrrrl")
    lines += ["", f"A row of `{platform.settings.tables.monitoring}` has all figures of a window. The {run} has the plot.", ""]
    with if_possible("the course of the windows"):
        lines.append(picture(platform.tracking.fetch(report.run_id, MONITORING_FILES[0]), "The latest windows"))
    create_markdown_artifact("\n".join(lines), key="monitoring", description=report.said)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    labelled = "" if one["macro_f1"] is None else f"{one['macro_f1']:.2f} ({one['labelled']:,} photos)"
    unusual = ", ".join(f"**{plain(name)}**" if name in one["alarm"] else plain(name) for name in one["speaks"])
    share, errors = f"{one['review_share']:.0%}", f"{one['error_share']:.1%}"
    return (
        one["window"],
        f"{one['rows']:,}",
        share,
        _number(one["estimated_macro_f1"], 2),
        labelled,
        _number(one["milliseconds_p95"], 0),
        errors,
        unusual,
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
