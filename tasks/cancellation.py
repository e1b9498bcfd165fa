"""What is left to do when a person cancels a run: its processes have ended, its jobs have not, its training has not said so.

A hook of the flow. Prefect runs it in a process of its own, so it works whatever the run died of.
"""

from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow

from car_damage.settings_sources import load
from tasks.runner import runner_for


def end_work(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """End the cancelled run's jobs in Databricks, and let MLflow no longer show its training as running."""
    del flow, state
    runner = runner_for(load())
    try:
        runner.cancel(str(flow_run.id))
    finally:
        runner.platform.tracking.abandon(str(flow_run.id))
