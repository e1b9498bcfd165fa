"""Cleans up after a cancelled run: its processes have ended, but its Databricks jobs go on, and MLflow shows its training as running.

A hook of the flow. Prefect runs it in a separate process, so it works however the run ended.
"""

from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow

from car_damage.settings_sources import load
from tasks.runner import runner_for


def end_work(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the run's jobs in Databricks, and end its MLflow run."""
    del flow, state
    runner = runner_for(load())
    try:
        runner.cancel(str(flow_run.id))
    finally:
        runner.platform.tracking.abandon(str(flow_run.id))
