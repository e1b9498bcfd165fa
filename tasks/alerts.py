"""Events that a person should know of although no run failed.

This module only sends them, with everything that a message needs in the payload. The automations of deployments/alerts.py
send the notifications.
"""

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_run_logger

from car_damage.pipeline import ValidateReport
from car_damage.promotion.outcome import Outcome
from car_damage.settings import Alerts
from tasks import events
from tasks.flow_runs import RETRAIN, in_state
from tasks.progress import if_possible

KEPT = "car-damage.champion.kept"
"""Event: several runs in a row brought no better version."""
REJECTS = "car-damage.images.rejected"
"""Event: an unusual share of a run's new files cannot be used."""
NOT_BETTER = ("Kept the champion", "Not promoted")
NOT_COUNTED = ("Nothing new", "Dry run")
"""Endings of runs that made no lasting decision."""
_RUNS_READ = 200


def of_rejects(report: ValidateReport, alerts: Alerts) -> None:
    """Send the event if too large a share of the new files was rejected. Raises Unavailable if it cannot be sent."""
    rejected = report.new - report.accepted
    if report.new < alerts.rejected_files or rejected <= alerts.rejected_share * report.new:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(report.rejected.items(), key=lambda item: -item[1]))
    get_run_logger().warning("%d of %d new files cannot be used: %s", rejected, report.new, reasons)
    payload = {"rejected": rejected, "files": report.new, "reasons": reasons}
    events.send(REJECTS, {"prefect.resource.id": "car-damage.landing"}, payload)


def of_ending(ending: Outcome, alerts: Alerts) -> None:
    """Send the event, if possible, when the number of runs in a row without a better version is a multiple of `alerts.kept_in_a_row`."""
    if ending.name not in NOT_BETTER:
        return
    with if_possible("the number of runs without a better version"):
        runs = 1 + in_a_row(_endings_before())
        if runs % alerts.kept_in_a_row == 0:
            get_run_logger().warning("%d runs in a row brought no better version", runs)
            events.send(KEPT, {"prefect.resource.id": "car-damage.champion"}, {"runs": runs, "message": ending.message})


def in_a_row(endings: list[str]) -> int:
    """How many of the latest runs, newest first, brought no better version; runs without a lasting decision do not count."""
    count = 0
    for name in endings:
        if name in NOT_BETTER:
            count += 1
        elif name not in NOT_COUNTED:
            break
    return count


def _endings_before() -> list[str]:
    completed = FlowRunFilter(state=in_state(StateType.COMPLETED))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_filter=RETRAIN, flow_run_filter=completed, sort=FlowRunSort.END_TIME_DESC, limit=_RUNS_READ)
    return [run.state_name or "" for run in found]
