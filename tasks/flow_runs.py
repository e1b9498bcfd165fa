"""Which flow runs are meant, in the words of Prefect's API."""

from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType

RETRAIN = FlowFilter(name=FlowFilterName(any_=["retrain"]))
"""Runs of the retraining, however they were started."""
UPDATES = FlowFilter(name=FlowFilterName(any_=["retrain", "promote"]))
"""Runs that may update the endpoint."""
LOOKS = FlowFilter(name=FlowFilterName(any_=["watch-landing"]))
"""Looks of the doorbell."""


def in_state(*types: StateType) -> FlowRunFilterState:
    """Runs in one of these states."""
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))
