"""The whole pipeline, from photos that landed to the model that answers.

The flow is a reconciler: each stage looks at what is there and does what is left, so a run after a kill, or a second
run on the same photos, ends where an undisturbed one would.
"""

from typing import Any

import typer
from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed

from car_damage.pipeline import EndpointRequest, ValidateRequest, live_request, register_request, silver_request, train_request
from car_damage.promotion import outcome
from car_damage.settings import Settings
from car_damage.settings_sources import load
from tasks import alerts, by_hand, commands, naming
from tasks.attempts import take_over
from tasks.author import started_by
from tasks.cancellation import end_work
from tasks.runner import runner_for
from tasks.stages import look_at_live, register_model, train_model, update_endpoint, validate_images, write_silver


def _run_name() -> str:
    return naming.starting("retrain")


@flow(
    name="retrain",
    flow_run_name=_run_name,
    description="Retrain the car damage classifier, and put it live if it is better.",
    on_cancellation=[end_work],
)
def retrain(dry_run: bool = False, train_again: bool = False, judge_again: bool = False, allow_removals: bool = False) -> State[Any]:
    """Take up what landed, train, judge, and update the endpoint.

    Args:
        dry_run: Do everything but change what is live: the version is registered and judged, no alias moves, the endpoint is not touched.
        train_again: Train even when these photos and settings have been trained on before.
        judge_again: Decide again on a version that has a decision, against the champion of this moment.
        allow_removals: Believe the landing folder even when most of the known photos have vanished from it.
    """
    take_over()
    settings = load()
    runner = runner_for(settings)
    flow_run = str(runtime.flow_run.id)

    validated = validate_images(ValidateRequest(flow_run, allow_removals), runner)
    silver = write_silver(silver_request(flow_run, validated), runner)

    asked = live_request(silver, settings)
    live = look_at_live(asked, runner)
    if live.settled and not (train_again or judge_again):
        return _ended(outcome.nothing_new(validated, silver, live), settings)

    # A cached report is worth nothing once its model is gone.
    train = train_model.with_options(refresh_cache=train_again or live.run_id is None)
    trained = train(train_request(flow_run, silver, live, asked, train_again), runner)
    registered = register_model(register_request(flow_run, silver, trained, dry_run, judge_again), runner)
    if dry_run:
        return _ended(outcome.dry_run(validated, registered), settings)

    endpoint = update_endpoint(EndpointRequest(flow_run, started_by()), runner)
    return _ended(outcome.after_endpoint(validated, registered, endpoint), settings)


def _ended(ending: outcome.Outcome, settings: Settings) -> State[Any]:
    alerts.of_ending(ending, settings.alerts)
    message = commands.with_approval(ending)
    return Completed(name=ending.name, message=message, data=message)


def main(dry_run: bool = False, train_again: bool = False, judge_again: bool = False, allow_removals: bool = False) -> None:
    """Run the flow once, in this process. Exit code 0 however it ended, and 1 if it failed."""
    by_hand.see_endpoint()
    state = by_hand.run(retrain, dry_run, train_again, judge_again, allow_removals)
    raise SystemExit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    typer.run(main)
