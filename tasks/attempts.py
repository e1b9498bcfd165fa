"""One flow run may be started several times: by an automation when it gave no sign of life, by hand after a crash."""

from prefect import get_run_logger
from prefect.context import FlowRunContext

from car_damage.errors import Terminal
from tasks import run_processes

MOST = 5
"""Starts of one flow run: one that takes its machine down with it must not do so for ever."""


def take_over() -> None:
    """Be the only start of this flow run, or refuse.

    A run whose Prefect server was away for longer than `alerts.zombie_after` is started again although it lives; the
    earlier process is ended, because two would do the same work beside each other.

    Raises:
        Terminal: this flow run has been started too often.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.run_count <= 1:
        return
    if context.flow_run.run_count > MOST:
        raise Terminal(
            f"this run was started {context.flow_run.run_count} times: see why it did not end in its log and in those of its worker, "
            "then start a new run, which goes on where this one was"
        )
    if earlier := run_processes.of_run(str(context.flow_run.id)):
        get_run_logger().warning("an earlier start of this run still goes on here (process %s): it is ended", earlier[0].pid)
        run_processes.end(earlier)
