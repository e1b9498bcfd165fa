"""Watching the live version: compare what it was asked and what it answered with its training, and ring when it gets worse."""

from typing import Any

import typer
from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed

from car_damage.pipeline import MonitorRequest
from car_damage.promotion import outcome
from car_damage.settings_sources import load
from tasks import by_hand, degradation, naming
from tasks.attempts import take_over, tell_end
from tasks.cancellation import end_work
from tasks.runner import runner_for
from tasks.stages import look_at_requests, raise_coverage
from tasks.turns import await_forgetting


def _run_name() -> str:
    return naming.initial("monitor")


@flow(
    name="monitor",
    flow_run_name=_run_name,
    description="Compare the latest requests with the training of the version that answered them.",
    on_completion=[tell_end],
    on_failure=[tell_end],
    on_crashed=[tell_end],
    on_cancellation=[end_work, tell_end],
)
def monitor() -> State[Any]:
    """Look at the windows of the request log that have ended, and notify if the live version is worse than it was."""
    if ended := take_over():
        return ended
    await_forgetting()
    settings = load()
    runner = runner_for(settings)
    report = look_at_requests(MonitorRequest(str(runtime.flow_run.id)), runner)
    try:
        if report.coverage is not None:
            raise_coverage(runner)
    finally:  # neither waits for the other: an event that cannot be sent, an endpoint that cannot be updated
        degradation.tell(report, settings)
    ending = outcome.after_monitor(report)
    return Completed(name=ending.name, message=ending.message, data=ending.message)


def main() -> None:
    """Run the flow once, in this process. Exit code 0 if the requests were looked at, 1 if not."""
    state = by_hand.run(monitor)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)
