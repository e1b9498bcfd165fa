"""Who or what started the current flow run, for the champion's history."""

from prefect.context import FlowRunContext

from car_damage.adapters.mlflow.provenance import user

DECIDED_BY = "car-damage.decided-by"
"""The label of a flow run that has who decided, where another run has started it for them."""


def started_by() -> str:
    """The flow's name, and who decided or, according to the server, started it: a schedule, an automation, a user; else this machine's."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    creator = str(run.labels[DECIDED_BY]) if run and DECIDED_BY in run.labels else None
    if creator is None and run and run.created_by:
        creator = run.created_by.display_value or run.created_by.type
    if creator is None:
        creator = "the schedule" if run and run.auto_scheduled else user()
    return f"{context.flow.name if context and context.flow else 'a flow'}, by {creator}"
