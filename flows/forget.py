"""Forgetting a photo: everything that is known of it is removed, and it is never taken up again.

The mark is noted first, so that whatever starts from then on knows it. What had started before may still write what it has read, so
this run waits for it; and what starts later waits for this run, which removes files that no commit names.
"""

from functools import partial
from typing import Annotated, Any

import typer
from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from car_damage.pipeline import ForgetRequest
from car_damage.promotion import outcome
from car_damage.settings_sources import load
from tasks import by_hand, forgetting, naming, turns
from tasks.attempts import take_over, tell_end
from tasks.author import started_by
from tasks.cancellation import end_work
from tasks.runner import runner_for
from tasks.stages import forget_photo

Photo = Annotated[str, Field(pattern=r"^(mark:)?[0-9a-f]{64}$")]


def _run_name() -> str:
    return naming.initial("forget")


@flow(
    name="forget",
    flow_run_name=_run_name,
    description="Remove all that is known of a photo, for good. It is never taken up again.",
    on_completion=[tell_end],
    on_failure=[tell_end],
    on_crashed=[tell_end],
    on_cancellation=[end_work, tell_end],
)
def forget(photo: Photo) -> State[Any]:
    """Remove all that is known of a photo, and all earlier versions of the tables. The artifact `forgotten` certifies it.

    Args:
        photo: The photo's SHA-256, 64 hexadecimal digits. The run puts a mark in its place, from which the photo cannot be told.
    """
    if ended := take_over():
        return ended
    settings = load()
    runner, mark, by = runner_for(settings), forgetting.mark(photo), started_by()
    flow_run = str(runtime.flow_run.id)
    told = forgetting.or_told("the photo's hash in the parameters of runs", forgetting.hide)

    noted = forget_photo(ForgetRequest(flow_run, mark, by, note_only=True), runner)
    turns.await_others(runner)
    told += forgetting.or_told("the photo in artifacts", partial(forgetting.clean_artifacts, noted, settings))
    report = forget_photo(ForgetRequest(flow_run, mark, by, elsewhere=told), runner)
    forgetting.clean_artifacts(report, settings)  # also of trainings that are known by now
    if settings.forgetting.retrain and report.versions:
        forgetting.start_retrain(report)
    ending = outcome.after_forget(report)
    return Completed(name=ending.name, message=ending.message, data=ending.message)


def main(photo: Annotated[str, typer.Option(help="The photo's SHA-256, 64 hexadecimal digits.")]) -> None:
    """Run the flow once, in this process. Exit code 0 if the photo was forgotten, 1 if not."""
    state = by_hand.run(forget, photo)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)
