"""Cleans up after a cancelled run. Its processes have ended, but its Databricks jobs go on, MLflow shows its training as running, and
the version that it was about to take live would be taken live by the next run.

These are hooks of the flows. Prefect runs them in a separate process, so they work however the run ended.
"""

from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger

from car_damage.settings_sources import load
from car_damage.stage import silent
from tasks.runner import runner_for
from tasks.stages import endpoint_limit


def end_work(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the run's jobs in Databricks, and end its MLflow run."""
    del flow, state
    runner = runner_for(load())
    try:
        runner.cancel(str(flow_run.id))
    finally:
        runner.platform.tracking.abandon(str(flow_run.id))


def stay_as_it_was(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Withdraw the version that the run was about to take live, serve the champion, and say in the run's log what is live."""
    from car_damage.stages import endpoint
    from car_damage.stages.versions import intention

    del state
    platform = runner_for(load()).platform
    intention.cancel(str(flow_run.id), platform)  # at once, because another run may hold the limit for long
    with endpoint_limit(strict=False):
        live = endpoint.cancel(str(flow_run.id), platform, silent)
    flow_run_logger(flow_run, flow).info("the run was cancelled: %s", live)
