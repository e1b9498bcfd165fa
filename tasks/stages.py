"""The stages as Prefect tasks: retries, timeouts, caching, progress, artifacts.

What a task adds to its stage stands in the decorator; the body runs the stage and shows what came of it.
"""

from typing import Any

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.tasks import Task, exponential_backoff

from car_damage.errors import PromotionRefused, Terminal, Transient, UpdateFailed
from car_damage.pipeline import (
    ChooseReport,
    ChooseRequest,
    EndpointReport,
    EndpointRequest,
    LiveReport,
    LiveRequest,
    RegisterReport,
    RegisterRequest,
    ScoreReport,
    ScoreRequest,
    SilverReport,
    SilverRequest,
    TrainReport,
    TrainRequest,
    ValidateReport,
    ValidateRequest,
    digest,
)
from tasks import alerts, artifacts, doorbell, naming
from tasks.data_quality import data_quality
from tasks.progress import if_possible, shown
from tasks.runner import Runner

ENDPOINT_LIMIT = "car-damage-endpoint"
"""The global concurrency limit under which an endpoint is updated; `python -m deployments bootstrap` makes it."""

MINUTE = 60.0
HOUR = 3600.0


def is_transient(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry what may pass by itself, and nothing else. A plain function: Prefect takes anything else for "never"."""
    return isinstance(state.result(raise_on_failure=False), Transient)


def _once_a_flow_run(context: TaskRunContext, inputs: dict[str, Any]) -> str:
    """A stage that completed is not done again when its flow run is retried."""
    return f"{context.task.name}-{context.task_run.flow_run_id}-{digest(inputs['request'])}"


def _once_a_training_key(_context: TaskRunContext, inputs: dict[str, Any]) -> str:
    """What would be trained again to the same model is not trained again, by any run of any worker that shares the storage.

    With the finished run, because a report of an earlier one must not hide a run that was trained again and then killed.
    """
    return f"train-{inputs['request'].training_key}-{inputs['request'].finished_run}"


def _choice() -> str:
    version = runtime.task_run.parameters["request"].version
    return "find the previous version" if version == "previous" else f"look at version {version}"


# Four attempts: after about 10, 20 and 40 s, each spread by the jitter, so that runs that failed together do not return together.
RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(10),
    "retry_jitter_factor": 1.0,
    "retry_condition_fn": is_transient,
}
KEPT: dict[str, Any] = {"persist_result": True, "result_serializer": "json"}


@task(
    name="validate_images",
    description="Finds the files that the bronze table has not seen, decides on each, and writes the verdicts.",
    task_run_name="validate what landed",
    tags=["car-damage", "data"],
    timeout_seconds=4 * HOUR,
    cache_policy=CachePolicy.from_cache_key_fn(_once_a_flow_run),
    **RETRIES,
    **KEPT,
)
def validate_images(request: ValidateRequest, runner: Runner) -> ValidateReport:
    """See `car_damage.stages.validate`."""
    from car_damage.stages import validate

    report = runner.run(validate.STAGE, request, shown("validation"))
    with if_possible("what landed"):
        artifacts.landed(report)
        alerts.of_rejects(report, runner.platform.settings.alerts)
    with if_possible("the number of new photos in the run's name"):
        naming.rename(naming.found(report))
    # A doorbell that does not know of it rings once too often, which costs a run that finds nothing new.
    with if_possible("to the doorbell what was validated"):
        doorbell.remember_validated(report.landing_fingerprint, request.flow_run)
    return report


@task(
    name="write_silver",
    description="Deduplicates, divides into train, validation and test, and merges the silver table.",
    task_run_name="silver from bronze version {request.bronze_version}",
    tags=["car-damage", "data"],
    timeout_seconds=2 * HOUR,
    cache_policy=CachePolicy.from_cache_key_fn(_once_a_flow_run),
    **RETRIES,
    **KEPT,
)
def write_silver(request: SilverRequest, runner: Runner) -> SilverReport:
    """See `car_damage.stages.silver`."""
    from car_damage.stages import silver

    report = runner.run(silver.STAGE, request, shown("silver"))
    with if_possible("the training photos"):
        artifacts.training_photos(report)
    with if_possible("the data's quality"):
        data_quality(report, runner.platform)
    return report


@task(
    name="look_at_live",
    description="Looks at what is decided, intended and served, to see whether anything is left to do.",
    task_run_name="look at what is live",
    tags=["car-damage", "model"],
    timeout_seconds=10 * MINUTE,
    cache_policy=NO_CACHE,
    **RETRIES,
)
def look_at_live(request: LiveRequest, runner: Runner) -> LiveReport:
    """See `car_damage.stages.live`. Never cached: what is live changes by itself."""
    from car_damage.stages import live

    return runner.run(live.STAGE, request, shown("live"))


@task(
    name="train_model",
    description="Trains the network on one silver version and logs the model to MLflow, unless the same was trained before.",
    task_run_name="train on silver version {request.silver_version}",
    tags=["car-damage", "model"],
    timeout_seconds=12 * HOUR,
    cache_policy=CachePolicy.from_cache_key_fn(_once_a_training_key),
    **RETRIES,
    **KEPT,
)
def train_model(request: TrainRequest, runner: Runner) -> TrainReport:
    """See `car_damage.stages.train`."""
    from car_damage.stages import train

    report = runner.run(train.STAGE, request, shown("training"))
    with if_possible("the model"):
        artifacts.trained(report, runner.platform.tracking)
    return report


@task(
    name="register_model",
    description="Judges the model against the champion on the same test photos and registers it with the decision.",
    task_run_name="judge the model on silver version {request.silver_version}",
    tags=["car-damage", "model"],
    timeout_seconds=2 * HOUR,
    cache_policy=CachePolicy.from_cache_key_fn(_once_a_flow_run),
    **RETRIES,
    **KEPT,
)
def register_model(request: RegisterRequest, runner: Runner) -> RegisterReport:
    """See `car_damage.stages.register`."""
    from car_damage.stages import register

    report = runner.run(register.STAGE, request, shown("judging"))
    with if_possible("the decision"):
        artifacts.decided(request, report, runner.platform)
    return report


@task(
    name="score_photos",
    description="Asks a version about photos that it has not been asked about, and merges its answers into the table of predictions.",
    task_run_name="ask {request.version}",
    tags=["car-damage", "model"],
    timeout_seconds=24 * HOUR,
    cache_policy=CachePolicy.from_cache_key_fn(_once_a_flow_run),
    **RETRIES,
    **KEPT,
)
def score_photos(request: ScoreRequest, runner: Runner) -> ScoreReport:
    """See `car_damage.stages.score`."""
    from car_damage.stages import score

    report = runner.run(score.STAGE, request, shown("scoring"))
    with if_possible("what the model said"):
        artifacts.scored(report, runner.platform.tables.uri(runner.platform.settings.tables.predictions))
    with if_possible("the number of photos in the run's name"):
        naming.rename(f"{report.scored:,} photo{'' if report.scored == 1 else 's'}, version {report.version}")
    return report


@task(
    name="choose_version",
    description="Finds the version that a person asks for, and refuses one that must not go live.",
    task_run_name=_choice,
    tags=["car-damage", "model"],
    timeout_seconds=10 * MINUTE,
    cache_policy=CachePolicy.from_cache_key_fn(_once_a_flow_run),
    **RETRIES,
    **KEPT,
)
def choose_version(request: ChooseRequest, runner: Runner) -> ChooseReport:
    """See `car_damage.stages.choose`."""
    from car_damage.stages import choose

    return runner.run(choose.STAGE, request, shown("choosing"))


@task(
    name="update_endpoint",
    description="Takes the challenger live after the endpoint has answered a real photo with it, or puts everything back.",
    task_run_name="update the endpoint",
    tags=["car-damage", "serving"],
    timeout_seconds=4 * HOUR,
    cache_policy=NO_CACHE,
    **RETRIES,
)
def update_endpoint(request: EndpointRequest, runner: Runner) -> EndpointReport:
    """See `car_damage.stages.endpoint`. One at a time, over all flows; never cached, as it changes the world."""
    from prefect.concurrency.asyncio import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError

    from car_damage.stages import endpoint

    try:
        # Two swaps at once are made harmless by the stage's second look at the champion; one that is broken off in the
        # middle is not. So a lease that could not be renewed must not end the update.
        get_run_logger().info("waiting for its turn; a run that was killed in its own keeps it for a minute")
        with concurrency(ENDPOINT_LIMIT, strict=True, timeout_seconds=HOUR, lease_duration=60, raise_on_lease_renewal_failure=False):
            report = runner.run(endpoint.STAGE, request, shown("endpoint"))
    except (UpdateFailed, PromotionRefused) as error:
        with if_possible("why the endpoint was not updated"):
            artifacts.not_served(error, runner.platform.settings.serving)
            artifacts.history(runner.platform.history.moves(), runner.platform.tracking)
        raise
    except AcquireConcurrencySlotTimeoutError as error:
        raise Transient("another run has been updating the endpoint for an hour") from error
    except ConcurrencySlotAcquisitionError as error:
        if error.__cause__ is not None:  # the server did not answer, or not as it should
            raise Transient(f"the concurrency limit {ENDPOINT_LIMIT} cannot be taken right now: {error.__cause__}") from error
        raise Terminal(
            f"there is no concurrency limit {ENDPOINT_LIMIT}; make it with `.venv/bin/python -m deployments bootstrap`"
        ) from error
    with if_possible("the endpoint"):
        artifacts.served(report, runner.platform.settings.serving)
        artifacts.history(runner.platform.history.moves(), runner.platform.tracking)
    return report
