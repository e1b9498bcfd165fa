"""What a task adds to its stage, on a real Prefect server: retries that depend on the kind of error, and one endpoint update at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import prefect
import pytest
from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.tasks import Task

from car_damage import pipeline
from car_damage.errors import CarDamageError, PhotoChanged, Terminal, Unavailable, UpdateFailed
from car_damage.moves import Intention
from car_damage.pipeline import (
    ChooseReport,
    ChooseRequest,
    Comparison,
    EndpointReport,
    EndpointRequest,
    Evidence,
    ForgetReport,
    ForgetRequest,
    Leftover,
    LiveReport,
    LiveRequest,
    RegisterReport,
    RegisterRequest,
    Score,
    SilverReport,
    SilverRequest,
    TidyReport,
    TidyRequest,
    TrainReport,
    TrainRequest,
    ValidateReport,
    ValidateRequest,
    training_key,
)
from car_damage.settings import Settings
from car_damage.stage import Progress, Stage
from deployments.bootstrap import limits
from deployments.items import bootstrap
from tasks import artifacts, old_pictures, progress, stages
from tasks.markdown import picture
from tasks.old_pictures import remove_pictures
from tasks.stages import ENDPOINT_LIMIT, choose_version, look_at_live, update_endpoint, validate_images, write_silver
from tasks.tidying import tidy_if_possible
from tests.fakes import Endpoint, Photos, Runs, Versions, World

TASKS = (
    validate_images,
    write_silver,
    stages.train_model,
    stages.register_model,
    update_endpoint,
    look_at_live,
    choose_version,
    stages.tidy_up,
    stages.forget_photo,
)
VALIDATED = ValidateReport(3, 2, {"empty": 1}, (), 0, 0, 0, 4, "f" * 64)


class Runner:
    """Runs no stage; each call ends as the test configures it: it raises an error or returns a report."""

    def __init__(self, *endings: Any) -> None:
        self.platform: Any = World(Settings(), Photos({}), Versions(), Endpoint({}), Runs({}))
        self.endings = list(endings)
        self.calls: list[Any] = []

    def run(self, stage: Stage[Any, Any], request: Any, tell: Progress) -> Any:
        del stage
        self.calls.append(request)
        tell("step", 1, 2, "half")
        ending = self.endings.pop(0)
        if isinstance(ending, BaseException):
            raise ending
        return ending


def run(task: Task[Any, Any], request: Any, runner: Runner) -> Any:
    """Run the task in a flow, with its own retries but without their delays."""
    quick = task.with_options(retry_delay_seconds=0)

    @flow(name="one-task")
    def one_task() -> Any:
        return quick(request, runner)

    return one_task()


def test_every_task_says_what_it_does_and_limits_itself() -> None:
    for task in TASKS:
        assert task.description
        assert task.tags
        assert task.timeout_seconds
        assert task.retries == 3
        assert task.retry_delay_seconds == [10, 20, 40]
        assert task.retry_jitter_factor == 1.0
        assert task.retry_condition_fn is stages.is_transient
    assert {task.name for task in TASKS} >= {"validate_images", "write_silver", "train_model", "register_model", "update_endpoint"}


@pytest.mark.usefixtures("server")
def test_what_may_pass_by_itself_is_tried_again() -> None:
    runner = Runner(Unavailable("the disk hiccups"), Unavailable("again"), VALIDATED)
    assert run(validate_images, ValidateRequest("flow a"), runner) == VALIDATED
    assert len(runner.calls) == 3


REQUESTS: dict[str, Any] = {
    "validate_images": ValidateRequest("flow z"),
    "write_silver": SilverRequest("flow z", 3),
    "look_at_live": LiveRequest("key"),
    "train_model": TrainRequest("flow z", 1, "f", "key of a fault"),
    "register_model": RegisterRequest("flow z", "run", "models:/m-1", 1),
    "choose_version": ChooseRequest(7),
    "update_endpoint": EndpointRequest("flow z", "who"),
    "tidy_up": TidyRequest("key"),
    "forget_photo": ForgetRequest("flow z", "mark"),
}
SCORE = Score(0.5, {"major": 0.5}, [[1]], 1.0)
EVIDENCE = Evidence(9, SCORE, SCORE, Comparison(0.0, 0.4, (-0.1, 0.1)))
REPORTS: dict[str, Any] = {
    "validate_images": VALIDATED,
    "write_silver": SilverReport(3, 1, "f", 1, 1, 0, 0, 1, {}, {}),
    "look_at_live": LiveReport("run", 1, 1, None, 1),
    "train_model": TrainReport("key of a fault", "run", "models:/m-1", {}),
    "register_model": RegisterReport(1, "keep", ("a tie",), 1, False, EVIDENCE),
    "choose_version": ChooseReport(7, 1, "promotion"),
    "update_endpoint": EndpointReport("unchanged", 1, None, "READY", None, "served already"),
    "tidy_up": TidyReport((Leftover("training", "one", 1, 5),)),
    "forget_photo": ForgetReport("mark", "Ann", "2026-01-01", (), ()),
}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("task", TASKS, ids=[task.name for task in TASKS])
def test_a_fault_that_passes_is_survived_by_every_task_and_one_that_does_not_is_not_tried_again(task: Task[Any, Any]) -> None:
    request, report = REQUESTS[task.name], REPORTS[task.name]
    refused = Runner(Terminal("it will not pass"), report)
    with pytest.raises(Terminal, match="it will not pass"):
        run(task, request, refused)
    assert len(refused.calls) == 1
    shaken = Runner(Unavailable("a hiccup"), report)
    assert run(task, request, shaken) == report
    assert len(shaken.calls) == 2


@pytest.mark.usefixtures("server")
def test_training_is_cached_over_flow_runs_until_what_it_follows_from_changes() -> None:
    settings = Settings()
    report = TrainReport("key", "run", "models:/m-1", {})

    def asked(fingerprint: str, with_settings: Settings, **more: Any) -> TrainRequest:
        return TrainRequest("flow", 1, fingerprint, training_key(fingerprint, with_settings), **more)

    def trains(request: TrainRequest, task: Task[Any, Any] = stages.train_model) -> bool:
        runner = Runner(report)
        assert run(task, request, runner) == report
        return bool(runner.calls)

    first = asked("photos of monday", settings)
    longer = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 7})})
    assert trains(first)
    # Another flow run, as on another worker: it shares only the request and the storage.
    assert not trains(TrainRequest("another flow run", 4, "photos of monday", first.training_key))
    assert trains(asked("photos of tuesday", settings))
    assert trains(asked("photos of monday", longer))
    assert trains(first, stages.train_model.with_options(refresh_cache=True))
    assert trains(asked("photos of monday", settings, finished_run="one that was trained again"))
    moved = Runner(report)
    moved.platform = World(Settings(home=Path("/moved")), Photos({}), Versions(), Endpoint({}), Runs({}))
    assert run(stages.train_model, first, moved) == report
    assert moved.calls


def test_the_recipe_is_part_of_the_training_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = training_key("f", Settings())
    monkeypatch.setattr(pipeline, "RECIPE", pipeline.RECIPE + 1)
    assert training_key("f", Settings()) != before


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("error", [PhotoChanged("photo 7 changed"), ValueError("a bug")])
def test_what_will_not_pass_fails_at_once(error: Exception) -> None:
    runner = Runner(error, VALIDATED)
    with pytest.raises(type(error), match=str(error)):
        run(validate_images, ValidateRequest(f"flow {error}"), runner)
    assert len(runner.calls) == 1


@pytest.mark.usefixtures("server")
def test_what_never_passes_is_given_up_after_four_attempts() -> None:
    runner = Runner(*(Unavailable(f"attempt {attempt}") for attempt in range(1, 9)))
    with pytest.raises(Unavailable, match="attempt 4"):
        run(write_silver, SilverRequest("flow b", 1), runner)


@pytest.mark.usefixtures("server")
def test_a_completed_stage_is_not_done_again_in_the_same_flow_run_and_is_in_another() -> None:
    runner = Runner(VALIDATED, VALIDATED)
    request = ValidateRequest("flow c")

    @flow(name="twice")
    def twice() -> Any:
        return validate_images(request, runner), validate_images(request, runner)

    assert twice() == (VALIDATED, VALIDATED)
    assert len(runner.calls) == 1
    twice()
    assert len(runner.calls) == 2


@pytest.mark.usefixtures("server")
def test_the_look_at_what_is_live_is_never_cached() -> None:
    report = LiveReport("run", 1, 1, None, 1)
    runner = Runner(report, report)

    @flow(name="looks")
    def looks() -> None:
        for _ in range(2):
            look_at_live(LiveRequest("key"), runner)

    looks()
    assert len(runner.calls) == 2


@pytest.mark.usefixtures("server")
def test_what_cannot_be_shown_does_not_fail_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def unreachable(*_: Any, key: str, **__: Any) -> None:
        tried.append(key)
        raise httpx.ConnectError("the server is being restarted")

    monkeypatch.setattr(progress, "create_progress_artifact", unreachable)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(artifacts, "create_table_artifact", unreachable)
    assert run(validate_images, ValidateRequest("flow d"), Runner(VALIDATED)) == VALIDATED
    assert tried == ["progress-validation", "landed"]


@pytest.mark.usefixtures("server")
def test_no_run_updates_the_endpoint_while_a_photo_is_removed() -> None:
    held: list[int] = []

    class Removing(Runner):
        def run(self, *given: Any) -> Any:
            with get_client(sync_client=True) as client:
                held.append(client.read_global_concurrency_limit_by_name(ENDPOINT_LIMIT).active_slots)
            return super().run(*given)

    for note_only in (True, False):
        run(stages.forget_photo, ForgetRequest("flow f", "mark", note_only=note_only), Removing(REPORTS["forget_photo"]))
    assert held == [0, 1]


@pytest.mark.usefixtures("server")
def test_a_stage_that_takes_time_has_one_bar_and_a_quick_one_none(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    clock = iter([0.0, 1.5, 1.6, 1.7, 3.8, 6.0, 6.1])

    @prefect.task
    def work() -> None:
        tell = progress.TaskProgress("a_stage")
        for step, done in (("look", 0), ("look", 50), ("look", 100), ("think", 0), ("think", 40), ("think", 100), ("last", 0)):
            tell(step, done, 100)
            told.append(bar("progress-a-stage"))

    @flow(name="two-steps")
    def two_steps() -> None:
        work()

    with monkeypatch.context() as patch:
        patch.setattr(progress, "time", SimpleNamespace(monotonic=clock.__next__))
        two_steps()
    quick = [None] * 4
    assert told == [*quick, (40.0, "a_stage: think"), (100.0, "a_stage: think"), (0.0, "a_stage: last")]


def bar(key: str) -> "tuple[float, str] | None":
    with get_client(sync_client=True) as client:
        wanted = {"artifacts": {"key": {"any_": [key]}}}
        found = client.request("POST", "/artifacts/filter", json=wanted).json()
    assert len(found) <= 1
    return (found[0]["data"], found[0]["description"]) if found else None


@pytest.mark.usefixtures("server")
def test_without_its_concurrency_limit_the_endpoint_is_not_updated() -> None:
    with get_client(sync_client=True) as client:
        client.delete_global_concurrency_limit_by_name(ENDPOINT_LIMIT)
    runner = Runner()
    try:
        with pytest.raises(Terminal, match="python -m deployments bootstrap"):
            run(update_endpoint, EndpointRequest("flow", "who"), runner)
        assert runner.calls == []
    finally:
        bootstrap(limits())


@pytest.mark.usefixtures("server")
def test_an_update_that_failed_is_shown_with_the_history_and_fails_at_once() -> None:
    runner = Runner(UpdateFailed("version 2 did not go live: it did not start; the end of its build log:\nImportError"))
    runner.platform.history.close(runner.platform.history.begin(Intention("promotion", 2, 1, "better", "who", "flow")), "failed", "no")
    with pytest.raises(UpdateFailed):
        run(update_endpoint, EndpointRequest("flow", "who"), runner)
    assert len(runner.calls) == 1
    with get_client(sync_client=True) as client:
        shown = {one["key"]: one["data"] for one in client.request("POST", "/artifacts/latest/filter", json={"limit": 200}).json()}
    assert "ImportError" in shown["endpoint-failure"]
    assert "failed" in str(shown["champion-history"])


class Watched(Runner):
    """Records how many updates run at the same time."""

    def __init__(self, *endings: Any) -> None:
        super().__init__(*endings)
        self.at_once = 0
        self.most = 0

    def run(self, stage: Stage[Any, Any], request: Any, tell: Progress) -> Any:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        threading.Event().wait(1.0)  # long enough for the other update to start, if nothing prevents it
        self.at_once -= 1
        return super().run(stage, request, tell)


@pytest.mark.usefixtures("server")
def test_two_updates_of_the_endpoint_run_one_after_the_other() -> None:
    report = EndpointReport("unchanged", 1, None, "READY", None, "served already")
    runner = Watched(report, report)
    with ThreadPoolExecutor(2) as pool:
        # A thread needs a copy of this test's context, which knows the server.
        both = [pool.submit(copy_context().run, run, update_endpoint, EndpointRequest("flow", "who"), runner) for _ in range(2)]
        assert [one.result(timeout=120) for one in both] == [report, report]
    assert runner.most == 1


@pytest.mark.usefixtures("server")
def test_bootstrap_mends_the_limit_and_changes_nothing_the_second_time() -> None:
    with get_client(sync_client=True) as client:
        client.update_global_concurrency_limit(ENDPOINT_LIMIT, GlobalConcurrencyLimitUpdate(limit=5, active=False))
        assert [result.problem for result in bootstrap(limits())] == ["is not active"]
        mended = client.read_global_concurrency_limit_by_name(ENDPOINT_LIMIT)
        assert (mended.limit, mended.active) == (1, True)
        assert [result.problem for result in bootstrap(limits())] == [None]
        client.update_global_concurrency_limit(ENDPOINT_LIMIT, GlobalConcurrencyLimitUpdate(limit=5))
        assert [result.problem for result in bootstrap(limits())] == ["allows 5 runs at once instead of 1"]


def test_every_error_that_leaves_a_stage_can_be_stored_and_read_back() -> None:
    import pickle

    def tree(kind: type[CarDamageError]) -> list[type[CarDamageError]]:
        return [kind, *(found for below in kind.__subclasses__() for found in tree(below))]

    for kind in tree(CarDamageError):
        again = pickle.loads(pickle.dumps(kind("what happened; what to do")))  # noqa: S301 - our own bytes
        assert (type(again), str(again)) == (kind, "what happened; what to do")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("fault", [Terminal("the registry refuses"), ValueError("nobody foresaw this")])
def test_a_night_whose_work_is_done_ends_well_though_it_cannot_tidy_up(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def night() -> TidyReport:
        return tidy_if_possible(TidyRequest(), Runner(fault))

    state = night(return_state=True)
    assert state.is_completed()
    assert state.result() == TidyReport(())
    assert f"could not tidy up tables and trainings; the next run tries again: {fault}" in caplog.text


@pytest.mark.usefixtures("server")
def test_old_runs_lose_their_pictures_and_keep_their_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs and artifacts there are: each page of the server's answers has one."""
    monkeypatch.setattr(old_pictures, "RUNS", 1)
    monkeypatch.setattr(old_pictures, "ARTIFACTS", 1)

    @flow(name="retrain")
    def night() -> None:
        create_markdown_artifact(f"macro-F1 0.5\n\n{picture(b'a' * 3000, 'Worst mistakes')}", key="model")
        create_markdown_artifact("no picture", key="decision")

    night()
    night()
    now = datetime.now(UTC)

    def texts() -> list[str]:
        keys = ArtifactFilter(key=ArtifactFilterKey(any_=["model", "decision"]))
        with get_client(sync_client=True) as client:
            return sorted(
                str(artifact.data) for artifact in client.read_artifacts(artifact_filter=keys, sort=ArtifactSort.CREATED_DESC)[:4]
            )

    before = texts()
    assert remove_pictures(now, 0) == []
    assert remove_pictures(now + timedelta(days=29), 30) == []
    assert texts() == before
    [removed] = remove_pictures(now + timedelta(days=400), 30)
    assert texts() == ["macro-F1 0.5\n\n*Worst mistakes: removed*"] * 2 + ["no picture"] * 2
    assert (removed.items, removed.bytes) == (2, sum(map(len, before)) - sum(map(len, texts())))
    assert remove_pictures(now + timedelta(days=400), 30) == []
