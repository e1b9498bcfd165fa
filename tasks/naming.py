"""What a flow run is called in the list of runs: when it started, and, once that is known, what it found.

Prefect asks for the name each time that a flow run begins, also when one is retried. Then it keeps the name that it has:
validation may come from the cache, and would not tell again.
"""

from datetime import UTC, datetime

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from car_damage.pipeline import ValidateReport

_APART = " · "


def starting(flow: str, details: str = "") -> str:
    """What a run is called before it has found anything; of a run that is retried, the name that it has.

    Returns:
        The flow's name, the day, UTC, and the parameters that are set to true, such as `retrain 2026-11-24, train again`.
    """
    name = runtime.flow_run.name
    if name and name.startswith(f"{flow} "):
        return str(name)
    asked = (parameter.replace("_", " ") for parameter, value in runtime.flow_run.parameters.items() if value is True)
    return _joined(", ".join([f"{flow} {datetime.now(UTC):%Y-%m-%d}", *asked]), details)


def found(report: ValidateReport) -> str:
    """What landed, in a few words, such as `57 new photos, 2 rejected`; `no new photos` where nothing did."""
    counts = {
        f"new photo{'' if report.accepted == 1 else 's'}": report.accepted,
        "rejected": report.new - report.accepted,
        "gone": report.vanished,
        "not readable": report.unreadable_count,
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "no new photos"


def rename(details: str) -> None:
    """Add the details to the name of the present flow run, in place of earlier ones. Outside of a flow run nothing is done.

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
