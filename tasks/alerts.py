"""What a person should hear of although no run failed, as events that the flow computes.

Automations of the deployments tell them on (see deployments/automations.py); here they are only emitted, with all that
a message needs in the payload.
"""

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import emit_event
from prefect.logging import get_run_logger

from car_damage.pipeline import ValidateReport
from car_damage.promotion.outcome import Outcome
from car_damage.settings import Alerts
from tasks.flow_runs import RETRAIN, in_state
from tasks.progress import if_possible

KEPT = "car-damage.champion.kept"
"""So many runs in a row brought no better version."""
REJECTS = "car-damage.images.rejected"
"""An unusual share of a run's new files cannot be used."""
NOT_BETTER = ("Kept the champion", "Not promoted")
SAYS_NOTHING = ("Nothing new", "Dry run")
"""Endings of runs that judged nothing for good."""
_RUNS_READ = 200


def of_rejects(report: ValidateReport, alerts: Alerts) -> None:
    """Emit when too large a share of the new files was rejected."""
    rejected = report.new - report.accepted
    if report.new < alerts.rejected_files or rejected <= alerts.rejected_share * report.new:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(report.rejected.items(), key=lambda item: -item[1]))
    get_run_logger().warning("%d of %d new files cannot be used: %s", rejected, report.new, reasons)
    emit_event(
        REJECTS,
        resource={"prefect.resource.id": "car-damage.landing"},
        payload={"rejected": rejected, "files": report.new, "reasons": reasons},
    )


def of_ending(ending: Outcome, alerts: Alerts) -> None:
    """Emit when this run is another one in a row that brought no better version: at the limit, and at each multiple of it."""
    if ending.name not in NOT_BETTER:
        return
    with if_possible("that the champion was kept again"):
        runs = 1 + in_a_row(_endings_before())
        if runs % alerts.kept_in_a_row == 0:
            get_run_logger().warning("%d runs in a row brought no better version", runs)
            emit_event(KEPT, resource={"prefect.resource.id": "car-damage.champion"}, payload={"runs": runs, "message": ending.message})


def in_a_row(endings: list[str]) -> int:
    """How many of the latest endings, newest first, were of a version that was not better; runs that judged nothing do not count."""
    count = 0
    for name in endings:
        if name in NOT_BETTER:
            count += 1
        elif name not in SAYS_NOTHING:
            break
    return count


def _endings_before() -> list[str]:
    completed = FlowRunFilter(state=in_state(StateType.COMPLETED))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_filter=RETRAIN, flow_run_filter=completed, sort=FlowRunSort.END_TIME_DESC, limit=_RUNS_READ)
    return [run.state_name or "" for run in found]
