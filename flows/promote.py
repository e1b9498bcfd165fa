"""A person decides what is live: approve a version that waits for approval, or roll back to an earlier one.

The endpoint's update is the same stage as in a retraining, under the same concurrency limit: the version must classify a real
photo before the alias moves, and no request is lost.
"""

from typing import Annotated, Any, Literal

import typer
from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from car_damage.pipeline import LAST_VERSION, ChooseRequest, promote_request
from car_damage.promotion import outcome
from car_damage.settings_sources import load
from tasks import by_hand, naming
from tasks.attempts import take_over, tell_end
from tasks.author import started_by
from tasks.cancellation import stay_as_it_was
from tasks.runner import runner_for
from tasks.stages import choose_version, update_endpoint

Version = Annotated[int, Field(ge=1, le=LAST_VERSION)] | Literal["previous"]


def _run_name() -> str:
    version = runtime.flow_run.parameters.get("version")
    return naming.initial("promote", "previous version" if version == "previous" else f"version {version}")


@flow(
    name="promote",
    flow_run_name=_run_name,
    description="Take a version live that a person has chosen, or roll back to the previous champion.",
    on_completion=[tell_end],
    on_failure=[tell_end],
    on_crashed=[tell_end],
    on_cancellation=[stay_as_it_was, tell_end],
)
def promote(reason: Annotated[str, Field(min_length=1, pattern=r"\S")], version: Version = "previous") -> State[Any]:
    """Take a version of the model live, and record the reason.

    Args:
        reason: The reason, for the champion's history.
        version: The version's number, or previous: the champion before the present one, without those that were rolled back.
    """
    if ended := take_over():
        return ended
    runner = runner_for(load())
    flow_run = str(runtime.flow_run.id)

    chosen = choose_version(ChooseRequest(version), runner)
    endpoint = update_endpoint(promote_request(flow_run, started_by(), chosen, reason), runner)
    ending = outcome.after_promote(endpoint)
    return Completed(name=ending.name, message=ending.message, data=ending.message)


def main(
    reason: Annotated[str, typer.Option(help="The reason, for the champion's history.")],
    version: Annotated[str, typer.Option(help="A version's number, or previous: the champion before the present one.")] = "previous",
) -> None:
    """Run the flow once, in this process. Exit code 0 if the version is live, 1 if it is not."""
    wanted = by_hand.version(version, "previous")
    if not reason.strip():
        raise typer.BadParameter("give a reason for the champion's history", param_hint="--reason")
    by_hand.check_endpoint()
    state = by_hand.run(promote, reason, wanted)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)
