"""Who or what started the current flow run, for the champion's history."""

from prefect.context import FlowRunContext

from car_damage.adapters.mlflow.provenance import user


def started_by() -> str:
    """The flow's name, and who started it according to the server: a schedule, an automation, a user; else this machine's user."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    creator = run.created_by.display_value or run.created_by.type if run and run.created_by else None
    if creator is None:
        creator = "the schedule" if run and run.auto_scheduled else user()
    return f"{context.flow.name if context and context.flow else 'a flow'}, by {creator}"
