"""How often one flow run may be started: a run that takes its machine down with it must not do so for ever."""

from prefect.context import FlowRunContext

from car_damage.errors import Terminal

MOST = 5
"""Starts of one flow run: the first, and those by an automation or by hand after a crash."""


def check_attempts() -> None:
    """Raise Terminal when this flow run has been started too often."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None and context.flow_run.run_count > MOST:
        raise Terminal(
            f"this run was started {context.flow_run.run_count} times and never ended: see the logs of its worker, then start a new run, "
            "which goes on where this one was"
        )
