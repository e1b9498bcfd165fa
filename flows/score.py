"""Batch scoring: classify many photos without the endpoint."""

from typing import Annotated, Any, Literal

import typer
from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from car_damage.pipeline import LAST_VERSION, ScoreRequest
from car_damage.promotion import outcome
from car_damage.settings_sources import load
from tasks import by_hand, naming
from tasks.attempts import take_over, tell_end
from tasks.cancellation import end_work
from tasks.runner import runner_for
from tasks.stages import score_photos
from tasks.turns import await_forgetting

Version = Annotated[int, Field(ge=1, le=LAST_VERSION)] | Literal["champion"]


def _run_name() -> str:
    return naming.initial("score")


@flow(
    name="score",
    flow_run_name=_run_name,
    description="Classify all photos of a folder or a table that the version has not classified before.",
    on_completion=[tell_end],
    on_failure=[tell_end],
    on_crashed=[tell_end],
    on_cancellation=[end_work, tell_end],
)
def score(source: str = "", version: Version = "champion") -> State[Any]:
    """Classify photos with a version of the model, and write the results to the table of predictions.

    Args:
        source: A folder, or a table catalog.schema.table with a column path. Empty: the setting scoring.source, or the landing folder.
        version: The version's number, or champion: the one that is live.
    """
    if ended := take_over():
        return ended
    await_forgetting()
    report = score_photos(ScoreRequest(str(runtime.flow_run.id), source, version), runner_for(load()))
    ending = outcome.after_score(report)
    return Completed(name=ending.name, message=ending.message, data=ending.message)


def main(
    source: Annotated[
        str,
        typer.Option(
            help="A folder, or a table catalog.schema.table with a column path; by default scoring.source, or the landing folder."
        ),
    ] = "",
    version: Annotated[str, typer.Option(help="A version's number, or champion: the one that is live.")] = "champion",
) -> None:
    """Run the flow once, in this process. Exit code 0 if the photos were scored, 1 if not."""
    state = by_hand.run(score, source, by_hand.version(version, "champion"))
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)
