"""A flow run may start several times: an automation restarts it when heartbeats stop, or a person does after a crash."""

from prefect import get_run_logger
from prefect.context import FlowRunContext

from car_damage.errors import Terminal
from tasks import run_processes

MOST = 5
"""Limit for the starts of one flow run: a run that crashes its machine must not do so for ever."""


def take_over() -> None:
    """Make this process the only one of its flow run.

    When the Prefect server was down for longer than `alerts.zombie_after`, the automation restarts a run that is still alive. This
    kills the earlier process, because otherwise both would do the same work at the same time.

    Raises:
        Terminal: this flow run was started too often.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.run_count <= 1:
        return
    if context.flow_run.run_count > MOST:
        raise Terminal(
            f"this run was started {context.flow_run.run_count} times: read its log and the logs of its workers to find out why, "
            "then start a new run, which continues where this one stopped"
        )
    if earlier := run_processes.of_run(str(context.flow_run.id)):
        get_run_logger().warning("an earlier process of this run is still active on this machine (PID %s): killing it", earlier[0].pid)
        run_processes.end(earlier)
