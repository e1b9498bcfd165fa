"""The whole pipeline, from photos that have landed to the model that serves.

The flow is a reconciler: each stage reads the current state and does only what is left. So a run after a kill, or a second
run on the same photos, ends in the same state as an undisturbed run.
"""

from typing import Any

import typer
from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed

from car_damage.pipeline import (
    EndpointRequest,
    TidyRequest,
    ValidateRequest,
    live_request,
    register_request,
    silver_request,
    train_request,
)
from car_damage.platform import as_first_used
from car_damage.promotion import outcome
from car_damage.settings import Settings
from car_damage.settings_sources import load
from tasks import alerts, approvals, by_hand, commands, naming
from tasks.attempts import take_over, tell_end
from tasks.author import started_by
from tasks.cancellation import end_work, stay_as_it_was
from tasks.progress import if_possible
from tasks.runner import runner_for
from tasks.stages import look_at_live, put_right, register_model, train_model, update_endpoint, validate_images, write_silver
from tasks.tidying import tidy_if_possible
from tasks.turns import await_forgetting


def _run_name() -> str:
    return naming.initial("retrain")


@flow(
    name="retrain",
    flow_run_name=_run_name,
    description="Retrain the car damage classifier, and take it live if it is better.",
    on_completion=[tell_end],
    on_failure=[tell_end],
    on_crashed=[tell_end],
    on_cancellation=[end_work, stay_as_it_was, tell_end],
)
def retrain(
    dry_run: bool = False,
    train_again: bool = False,
    judge_again: bool = False,
    allow_removals: bool = False,
    retire_other_folders: bool = False,
) -> State[Any]:
    """Validate photos that have landed, train, judge, and update the endpoint.

    Args:
        dry_run: Register and judge the version, but move no alias and leave the endpoint unchanged.
        train_again: Train even if a model was already trained on these photos with these settings.
        judge_again: Compare a version that has a decision with the present champion, and decide again.
        allow_removals: Accept that most of the known photos, or most photos of a class, have vanished from the landing folder.
        retire_other_folders: Stop using photos of other landing folders than the present one.
    """
    if ended := take_over():
        return ended
    await_forgetting()
    settings = load()
    runner = runner_for(settings)
    flow_run = str(runtime.flow_run.id)

    if not dry_run:
        put_right(runner)

    landing = ValidateRequest(flow_run, allow_removals, retire_other_folders)
    validated = validate_images(landing, runner)
    silver = write_silver(silver_request(landing, validated), runner)

    live_query = live_request(silver, as_first_used(settings), runner.platform.files.read)
    live = look_at_live(live_query, runner)
    leftovers = TidyRequest(live_query.training_key, fallback_key=live_query.fallback_key)
    if live.settled and not (train_again or judge_again):
        tidied = tidy_if_possible(leftovers, runner)
        return _ended(outcome.after_tidying(outcome.nothing_new(validated, silver, live), tidied), settings)

    # A cached report is useless if its model no longer exists.
    train = train_model.with_options(refresh_cache=train_again or live.run_id is None)
    trained = train(train_request(flow_run, silver, live, live_query, train_again), runner)
    registered = register_model(register_request(flow_run, silver, trained, dry_run, judge_again), runner)
    if dry_run:
        return _ended(outcome.dry_run(validated, registered), settings)

    endpoint = update_endpoint(EndpointRequest(flow_run, started_by()), runner)
    tidied = tidy_if_possible(leftovers, runner)
    return _ended(outcome.after_tidying(outcome.after_endpoint(validated, registered, endpoint), tidied), settings)


def _ended(ending: outcome.Outcome, settings: Settings) -> State[Any]:
    alerts.of_ending(ending, settings.alerts)
    if ending.awaiting is not None:
        with if_possible("the version that waits, for the doorbell"):
            approvals.remember(ending.awaiting)
    message = commands.with_approval(ending)
    return Completed(name=ending.name, message=message, data=message)


def main(
    dry_run: bool = False,
    train_again: bool = False,
    judge_again: bool = False,
    allow_removals: bool = False,
    retire_other_folders: bool = False,
) -> None:
    """Run the flow once, in this process. Exit code 0 if it completed, 1 if it failed."""
    by_hand.check_endpoint()
    state = by_hand.run(retrain, dry_run, train_again, judge_again, allow_removals, retire_other_folders)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)
