"""The stages as Prefect tasks: retries, timeouts, caching, progress, artifacts.

The decorator holds what a task adds to its stage. The body runs the stage and shows its report. Prefect's pages show the docstring.
A task imports its stage when it runs, because `prefect deploy` only reads the decorators.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.asyncio import AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.tasks import Task, exponential_backoff

from car_damage.errors import CarDamageError, PromotionRefused, Terminal, Transient, UpdateFailed
from car_damage.pipeline import (
    ChooseReport,
    ChooseRequest,
    EndpointReport,
    EndpointRequest,
    ForgetReport,
    ForgetRequest,
    LiveReport,
    LiveRequest,
    MonitorReport,
    MonitorRequest,
    RegisterReport,
    RegisterRequest,
    ScoreReport,
    ScoreRequest,
    SilverReport,
    SilverRequest,
    TidyReport,
    TidyRequest,
    TrainReport,
    TrainRequest,
    ValidateReport,
    ValidateRequest,
    digest,
)
from car_damage.stage import HOUR
from tasks import alerts, artifacts, commands, doorbell, naming
from tasks.data_quality import data_quality
from tasks.latest_windows import latest_windows
from tasks.progress import TaskProgress, if_possible
from tasks.runner import Runner

ENDPOINT_LIMIT = "car-damage-endpoint"
"""The global concurrency limit under which an endpoint is updated; `python -m deployments bootstrap` makes it."""

MINUTE = 60.0


def is_transient(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry what may pass by itself, and nothing else. A plain function, because Prefect takes anything else for "never"."""
    return isinstance(state.result(raise_on_failure=False), Transient)


def _place(inputs: dict[str, Any]) -> str:
    """Where tables and trainings are kept. A report of one place says nothing about another, such as a home folder that has moved."""
    settings = inputs["runner"].platform.settings
    tables = str(settings.home) if settings.tables.names == "folders" else ""
    return digest([settings.tracking_uri, settings.registry_uri, tables])[:16]


def _once_a_flow_run(context: TaskRunContext, inputs: dict[str, Any]) -> str:
    """The key of a stage that is not done again when its flow run is retried."""
    return f"{context.task.name}-{context.task_run.flow_run_id}-{digest(inputs['request'])}-{_place(inputs)}"


def _once_a_training_key(_context: TaskRunContext, inputs: dict[str, Any]) -> str:
    """The key of a training that no run repeats, on any worker that shares the result storage.

    It holds the finished run, because the report of an earlier run must not hide a run that was trained again and then killed.
    """
    return f"train-{inputs['request'].training_key}-{inputs['request'].finished_run}-{_place(inputs)}"


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
KEPT: dict[str, Any] = {"persist_result": True, "result_serializer": "json", **RETRIES}
ONCE_A_FLOW_RUN: dict[str, Any] = {"cache_policy": CachePolicy.from_cache_key_fn(_once_a_flow_run), **KEPT}


@task(
    task_run_name="validate new files",
    tags=["car-damage", "data"],
    timeout_seconds=4 * HOUR,
    **ONCE_A_FLOW_RUN,
)
def validate_images(request: ValidateRequest, runner: Runner) -> ValidateReport:
    """Finds the files that bronze has not seen, and writes a verdict on each."""
    from car_damage.stages import validate

    report = runner.run(validate.STAGE, request, TaskProgress("validation"))
    with if_possible("the new files"):
        artifacts.landed(report)
    with if_possible("the rejected files"):
        alerts.of_rejects(report, runner.platform.settings.alerts)
    with if_possible("the number of new photos in the run's name"):
        naming.rename(naming.found(report))
    # Without it the doorbell rings once too often, which costs a run that finds nothing new.
    with if_possible("the validated photos"):
        doorbell.remember_validated(report.landing_fingerprint, request.flow_run)
    return report


@task(
    task_run_name="silver from bronze version {request.bronze_version}",
    tags=["car-damage", "data"],
    timeout_seconds=2 * HOUR,
    **ONCE_A_FLOW_RUN,
)
def write_silver(request: SilverRequest, runner: Runner) -> SilverReport:
    """Removes duplicates, divides the photos into train, validation and test, and merges them into silver."""
    from car_damage.stages import silver

    report = runner.run(silver.STAGE, request, TaskProgress("silver"))
    with if_possible("the training photos"):
        artifacts.training_photos(report)
    with if_possible("the data's quality"):
        data_quality(report, runner.platform)
    return report


@task(
    task_run_name="look at what is live",
    tags=["car-damage", "model"],
    timeout_seconds=10 * MINUTE,
    cache_policy=NO_CACHE,  # what is live changes by itself
    **RETRIES,
)
def look_at_live(request: LiveRequest, runner: Runner) -> LiveReport:
    """Finds out what is decided, intended and served, and whether anything is left to do."""
    from car_damage.stages import live

    return runner.run(live.STAGE, request, TaskProgress("live"))


@task(
    task_run_name="train on silver version {request.silver_version}",
    tags=["car-damage", "model"],
    timeout_seconds=12 * HOUR,
    cache_policy=CachePolicy.from_cache_key_fn(_once_a_training_key),
    **KEPT,
)
def train_model(request: TrainRequest, runner: Runner) -> TrainReport:
    """Trains the network on one silver version and logs the model to MLflow, unless the same model was trained before."""
    from car_damage.stages import train

    report = runner.run(train.STAGE, request, TaskProgress("training"))
    with if_possible("the model"):
        artifacts.trained(report, runner.platform.tracking)
    return report


@task(
    task_run_name="judge the model on silver version {request.silver_version}",
    tags=["car-damage", "model"],
    timeout_seconds=2 * HOUR,
    **ONCE_A_FLOW_RUN,
)
def register_model(request: RegisterRequest, runner: Runner) -> RegisterReport:
    """Judges the model against the champion on the same test photos and registers it with the decision."""
    from car_damage.stages import register

    report = runner.run(register.STAGE, request, TaskProgress("judging"))
    with if_possible("the decision"):
        artifacts.decided(request, report, runner.platform)
    return report


@task(
    task_run_name="score with {request.version}",
    tags=["car-damage", "model"],
    timeout_seconds=24 * HOUR,
    **ONCE_A_FLOW_RUN,
)
def score_photos(request: ScoreRequest, runner: Runner) -> ScoreReport:
    """Scores the photos that this version has not scored, and merges the answers into the predictions table."""
    from car_damage.stages import score

    report = runner.run(score.STAGE, request, TaskProgress("scoring"))
    with if_possible("the predictions"):
        artifacts.scored(report, runner.platform.tables.uri(runner.platform.settings.tables.predictions))
    with if_possible("the number of photos in the run's name"):
        naming.rename(f"{report.scored:,} photo{'' if report.scored == 1 else 's'}, version {report.version}")
    return report


@task(
    task_run_name="look at the latest requests",
    tags=["car-damage", "serving"],
    timeout_seconds=2 * HOUR,
    **ONCE_A_FLOW_RUN,
)
def look_at_requests(request: MonitorRequest, runner: Runner) -> MonitorReport:
    """Compares the windows of the request log that have ended with the training of the version that answered."""
    from car_damage.stages import monitor

    report = runner.run(monitor.STAGE, request, TaskProgress("monitoring"))
    with if_possible("the latest windows"):
        latest_windows(report, runner.platform)
    return report


@task(
    task_run_name=_choice,
    tags=["car-damage", "model"],
    timeout_seconds=10 * MINUTE,
    **ONCE_A_FLOW_RUN,
)
def choose_version(request: ChooseRequest, runner: Runner) -> ChooseReport:
    """Finds the version that a person wants live, and refuses a version that must not go live."""
    from car_damage.stages import choose

    return runner.run(choose.STAGE, request, TaskProgress("choosing"))


@task(
    task_run_name="update the endpoint",
    tags=["car-damage", "serving"],
    timeout_seconds=4 * HOUR,
    cache_policy=NO_CACHE,  # it changes what is live
    **RETRIES,
)
def update_endpoint(request: EndpointRequest, runner: Runner) -> EndpointReport:
    """Takes the challenger live after the endpoint has answered a real photo with it, or puts everything back."""
    from car_damage.stages import endpoint

    get_run_logger().info("waiting for the concurrency limit; a run that was killed holds it for a minute")
    try:
        with endpoint_limit():
            report = runner.run(endpoint.STAGE, request, TaskProgress("endpoint"))
    except (UpdateFailed, PromotionRefused) as error:
        with if_possible("the reason why the endpoint was not updated"):
            artifacts.not_served(error, runner.platform.settings.serving)
        _show_history(runner)
        raise
    with if_possible("the endpoint"):
        artifacts.served(report, runner.platform.settings.serving)
    _show_history(runner)
    return report


@task(
    task_run_name="look at what is served",
    tags=["car-damage", "serving"],
    timeout_seconds=2 * HOUR,
    cache_policy=NO_CACHE,  # it may change by itself
)
def put_right(runner: Runner) -> str:
    """Serves the champion again before anything long begins, if a killed run has left another version there."""
    from car_damage.stages import endpoint

    try:
        if endpoint.is_right(runner.platform):
            return "the endpoint serves the champion, or nothing is live"
        with endpoint_limit():
            return endpoint.put_right(runner.platform, TaskProgress("endpoint"))
    except CarDamageError as error:
        # This run may train a version that can be served, and its own update of the endpoint fails if that is still away.
        get_run_logger().warning("the endpoint does not serve the champion: %s", error)
        return str(error)


@task(
    task_run_name="ask for a person more often",
    tags=["car-damage", "serving"],
    timeout_seconds=4 * HOUR,
    cache_policy=NO_CACHE,  # it changes what is live
    **RETRIES,
)
def raise_coverage(runner: Runner) -> str:
    """Updates the endpoint so that more answers of a version that is worse ask for a person, or as many as before where none should."""
    from car_damage.stages import endpoint

    with endpoint_limit():
        return endpoint.raise_coverage(runner.platform, TaskProgress("endpoint"))


@contextmanager
def endpoint_limit(*, strict: bool = True) -> Iterator[None]:
    """Hold the concurrency limit of the endpoint. Without `strict`, a server that has none is no error.

    The stage looks at the champion twice, so two updates at once do no harm; an update that is interrupted does. So a lease that could not
    be renewed must not end it.

    Raises:
        Transient: another run holds it for too long, or the server does not answer.
        Terminal: there is no such limit.
    """
    try:
        with concurrency(ENDPOINT_LIMIT, strict=strict, timeout_seconds=HOUR, lease_duration=60, raise_on_lease_renewal_failure=False):
            yield
    except AcquireConcurrencySlotTimeoutError as error:
        raise Transient("another run has held the endpoint for an hour") from error
    except ConcurrencySlotAcquisitionError as error:
        if error.__cause__ is not None:  # the server gave no valid answer
            raise Transient(f"the concurrency limit {ENDPOINT_LIMIT} cannot be taken at present: {error.__cause__}") from error
        raise Terminal(f"there is no concurrency limit {ENDPOINT_LIMIT}; `{commands.BOOTSTRAP}` makes it") from error


@task(
    task_run_name="forget a photo",
    tags=["car-damage", "data"],
    timeout_seconds=4 * HOUR,
    cache_policy=NO_CACHE,  # it removes what is there at that moment
    **RETRIES,
)
def forget_photo(request: ForgetRequest, runner: Runner) -> ForgetReport:
    """Removes all that is known of a photo, and notes a mark by which it is not taken up again."""
    from car_damage.stages import forget

    # An update of the endpoint fetches a model, whose example may be the photo, and sends it a test photo.
    with nullcontext() if request.note_only else endpoint_limit(strict=False):
        report = runner.run(forget.STAGE, request, TaskProgress("forgetting"))
    if not request.note_only:
        with if_possible("the certificate"):
            artifacts.forgotten(report)
    return report


@task(
    task_run_name="tidy up",
    tags=["car-damage"],
    timeout_seconds=HOUR,
    cache_policy=NO_CACHE,  # it removes what is there at that moment
    **RETRIES,
)
def tidy_up(request: TidyRequest, runner: Runner) -> TidyReport:
    """Removes old versions of tables, and what else no run, rollback or audit needs."""
    from car_damage.stages import tidy

    return runner.run(tidy.STAGE, request, TaskProgress("tidy"))


def _show_history(runner: Runner) -> None:
    with if_possible("the champion's history"):
        artifacts.history(runner.platform.history.moves(), runner.platform.tracking)
