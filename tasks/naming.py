"""Names of flow runs that say what a run is about, in the lists of the Prefect UI."""

from datetime import UTC, datetime

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from car_damage.pipeline import ValidateReport


def today(what: str) -> str:
    """`retrain 2026-11-24`, until more is known."""
    return f"{what} {datetime.now(UTC):%Y-%m-%d}"


def name_run(report: ValidateReport) -> None:
    """`retrain 2026-11-24 · 57 new photos`, once the landing folder has been looked at."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or context is None or context.flow is None:
        return
    name = f"{today(context.flow.name)} · {_what(report)}"
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, name=name)


def _what(report: ValidateReport) -> str:
    """What landed, in a few words."""
    if report.new:
        return f"{report.new:,} new photo{'' if report.new == 1 else 's'}"
    return f"{report.vanished:,} photo{'' if report.vanished == 1 else 's'} gone" if report.vanished else "no new photos"
