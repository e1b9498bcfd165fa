"""The name of a flow run: when it started and, as soon as that is known, what it found.

Prefect computes the name at each start of a flow run, also at a retry. A retried run keeps its name, because its validation may
come from the cache and would not rename it again.
"""

from datetime import UTC, datetime

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from car_damage.pipeline import ValidateReport

_APART = " · "


def initial(flow: str, details: str = "") -> str:
    """The name of a run that has found nothing yet; a retried run keeps its name.

    Returns:
        The flow's name, the date in UTC, and the parameters that are true, such as `retrain 2026-11-24, train again`.
    """
    name = runtime.flow_run.name
    if name and name.startswith(f"{flow} "):
        return str(name)
    options = (parameter.replace("_", " ") for parameter, value in runtime.flow_run.parameters.items() if value is True)
    return _joined(", ".join([f"{flow} {datetime.now(UTC):%Y-%m-%d}", *options]), details)


def found(report: ValidateReport) -> str:
    """What landed, such as `57 new photos, 2 rejected`, or `no new photos`."""
    counts = {
        f"new photo{'' if report.accepted == 1 else 's'}": report.accepted,
        "rejected": report.new - report.accepted,
        "gone": report.vanished,
        "not readable": report.unreadable_count,
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "no new photos"


def rename(details: str) -> None:
    """Add the details to the name of the current flow run, instead of earlier ones. Does nothing outside a flow run.

    Raises:
        httpx.HTTPError: the server does not answer.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    name = _joined(context.flow_run.name.partition(_APART)[0], details)
    with get_client(sync_client=True) as client:
        client.set_flow_run_name(context.flow_run.id, name)


def _joined(name: str, details: str) -> str:
    return f"{name}{_APART}{details}" if details else name
