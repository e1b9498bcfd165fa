"""Filters of Prefect's API for the runs of our flows."""

from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType

RETRAIN = FlowFilter(name=FlowFilterName(any_=["retrain"]))
"""Runs of retrain, however they were started."""
UPDATES = FlowFilter(name=FlowFilterName(any_=["retrain", "promote"]))
"""Runs that may update the endpoint."""
PICTURED = FlowFilter(name=FlowFilterName(any_=["retrain", "monitor"]))
"""Runs whose artifacts have pictures."""
WORK = FlowFilter(name=FlowFilterName(any_=["retrain", "promote", "score", "monitor", "forget"]))
"""Runs that read photos or change what is known of them."""
FORGET = FlowFilter(name=FlowFilterName(any_=["forget"]))
"""Runs that have a photo forgotten."""
DOORBELL = FlowFilter(name=FlowFilterName(any_=["watch-landing"]))
"""Runs of the doorbell."""


def in_state(*types: StateType) -> FlowRunFilterState:
    """Runs in one of these states."""
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))
