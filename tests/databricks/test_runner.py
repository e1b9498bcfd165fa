"""Stages run as job runs, against a workspace that answers as Databricks does. Lost requests and responses lead to no second run."""

import time
from dataclasses import replace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from car_damage.adapters.databricks.volume import Volume
from car_damage.errors import LandingLost, RequestRefused, SettingsError, Terminal, Transient, Unavailable
from car_damage.job import handover, jobs
from car_damage.job.handover import Place
from car_damage.job.jobs import Jobs
from car_damage.pipeline import LiveReport, LiveRequest, SilverReport, ValidateReport, ValidateRequest, silver_request
from car_damage.ports import Files
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages import stage_named
from car_damage.stages.live import STAGE as LIVE
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.train import STAGE as TRAIN
from car_damage.stages.validate import STAGE as VALIDATE
from tasks import databricks_jobs
from tasks.databricks_jobs import STARTS, DatabricksJobs
from tasks.stages import look_at_requests, register_model, score_photos, train_model, validate_images, write_silver
from tests.databricks.conftest import HANDOVERS, Seen, make_runner
from tests.databricks.twin import CLIENT, SECRET, Twin

REQUEST = ValidateRequest("flow-1")


def as_service_principal(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process a client id and secret instead of a token."""
    twin.pats.clear()
    monkeypatch.delenv("DATABRICKS_TOKEN")
    for name, value in {"CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET, "AUTH_TYPE": "oauth-m2m"}.items():
        monkeypatch.setenv(f"DATABRICKS_{name}", value)


def ended(twin: Twin) -> list[str]:
    return [run.code for run in twin.runs()]


@pytest.mark.usefixtures("photos")
def test_two_stages_are_one_run_that_is_linked_and_shows_how_far_it_is(runner: DatabricksJobs, twin: Twin, seen: Seen) -> None:
    told = seen.progress
    validated = runner.run(VALIDATE, REQUEST, lambda *given: told.append(given))
    assert (validated.listed, validated.accepted, validated.new) == (68, 59, 68)
    silver = runner.run(SILVER, silver_request(ValidateRequest("flow-1"), validated), silent)
    assert silver.rows == 56
    assert len(twin.runs()) == 1
    [run] = twin.runs()
    assert {(stage, shown.run_id) for stage, shown in seen.links} <= {("validate", run.run_id), ("silver", run.run_id)}
    assert seen.links[0][1].url == f"{twin.host}/?o=1234#job/{next(iter(twin.jobs))}/run/{run.run_id}"
    assert run.parameters["stages"] == "validate,silver"


@pytest.mark.usefixtures("photos")
def test_a_run_that_ends_between_the_looks_for_its_report_and_for_itself_is_not_followed_by_another(
    runner: DatabricksJobs, twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated = runner.run(VALIDATE, REQUEST, silent)
    [run] = twin.runs()
    looks = []

    def read_report(files: Files, place: Place, report: type[Any]) -> Any:
        looks.append(place)
        if len(looks) > 1:
            return found(files, place, report)
        limit = time.monotonic() + 120
        while not runner.jobs.look(run.run_id).ended and time.monotonic() < limit:
            time.sleep(0.1)
        return None

    found = handover.read_report
    monkeypatch.setattr(handover, "read_report", read_report)
    assert runner.run(SILVER, silver_request(ValidateRequest("flow-1"), validated), silent).rows == 56
    assert ended(twin) == ["SUCCESS"]


@pytest.mark.usefixtures("photos")
def test_the_same_asked_again_is_answered_without_a_run(runner: DatabricksJobs, twin: Twin, settings: Settings, seen: Seen) -> None:
    first = runner.run(VALIDATE, REQUEST, silent)
    asked = len(twin.asked)
    assert make_runner(settings, seen).run(VALIDATE, REQUEST, silent) == first
    assert not any("jobs" in call for call in twin.asked[asked:])
    assert len(twin.runs()) == 1


@pytest.mark.usefixtures("photos")
def test_a_flow_run_that_was_killed_while_it_waited_takes_its_run_up_again(
    runner: DatabricksJobs, twin: Twin, settings: Settings, seen: Seen
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    twin.cold = 3600
    runner.platform.clock.sleep = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        runner.run(VALIDATE, REQUEST, silent)
    assert [run.state for run in twin.runs()] == ["PENDING"]
    twin.cold = 0
    assert make_runner(settings, seen).run(VALIDATE, REQUEST, silent).listed == 68
    assert len(twin.runs()) == 1


def test_what_the_stage_raises_in_the_job_is_raised_here_and_another_try_is_another_run(
    runner: DatabricksJobs, twin: Twin, settings: Settings
) -> None:
    handed = settings.model_copy(update={"landing": settings.landing.model_copy(update={"folder": "/Volumes/insurance_uc/landing/none/"})})
    failing = make_runner(handed, Seen())
    for tries in (1, 2):
        with pytest.raises(SettingsError, match=r"^stage validate: the folder .* mount it, create it.* \(https://127.*/run/\d+\)$"):
            failing.run(VALIDATE, REQUEST, silent)
        assert ended(twin) == ["RUN_EXECUTION_ERROR"] * tries


@pytest.mark.parametrize(
    ("ending", "kind", "told"),
    [
        (("CLUSTER_ERROR", "CLOUD_FAILURE", "no capacity"), Transient, "CLUSTER_ERROR: no capacity"),
        (("INTERNAL_ERROR", "INTERNAL_ERROR", "try again"), Transient, "INTERNAL_ERROR: try again"),
        (("INTERNAL_ERROR", "CLIENT_ERROR", "it raised"), Terminal, "INTERNAL_ERROR: it raised"),
        (("RUN_EXECUTION_ERROR", "CLIENT_ERROR", "exit code 137"), Terminal, "RUN_EXECUTION_ERROR: exit code 137"),
        (("USER_CANCELED", "CLIENT_ERROR", "cancelled by x"), Terminal, "USER_CANCELED: cancelled by x"),
        (("LIBRARY_INSTALLATION_ERROR", "CLIENT_ERROR", "no wheel"), Terminal, "LIBRARY_INSTALLATION_ERROR: no wheel"),
        (("SUCCESS", "SUCCESS", ""), Terminal, "succeeded and left no report in /Volumes/insurance_uc/ops/runs"),
    ],
)
def test_a_run_that_ends_without_a_word_is_told_by_how_it_ended_and_not_waited_for_twice(
    runner: DatabricksJobs, twin: Twin, ending: tuple[str, str, str], kind: type[Exception], told: str
) -> None:
    twin.endings = [ending, ending]
    for tries in (1, 2):
        with pytest.raises(kind, match=r"^stage validate: the run https://.* of the job car-damage-ingest ") as raised:
            runner.run(VALIDATE, REQUEST, silent)
        assert told in str(raised.value)
        assert type(raised.value) is kind
        assert len(twin.runs()) == tries


def test_a_platform_that_fails_is_tried_again_although_the_workspace_has_only_old_words(runner: DatabricksJobs, twin: Twin) -> None:
    twin.old_words = True
    twin.endings = [("INTERNAL_ERROR", "INTERNAL_ERROR", "no cluster")]
    with pytest.raises(Transient, match="FAILED: no cluster"):
        runner.run(VALIDATE, REQUEST, silent)


def test_a_run_that_somebody_has_deleted_is_followed_by_another_one(runner: DatabricksJobs, twin: Twin) -> None:
    twin.endings = [("CLUSTER_ERROR", "CLOUD_FAILURE", "no capacity")] * 2
    with pytest.raises(Transient):
        runner.run(VALIDATE, REQUEST, silent)
    [first] = twin.runs()
    twin.delete_run(first)
    with pytest.raises(Transient, match="no capacity"):
        runner.run(VALIDATE, REQUEST, silent)
    assert [run.run_id for run in twin.runs()] != [first.run_id]
    assert len(twin.runs()) == 1


def test_a_request_that_is_refused_whatever_its_token_is_told_with_the_workspace_s_words(runner: DatabricksJobs, twin: Twin) -> None:
    twin.jobs[next(iter(twin.jobs))].settings["parameters"] = []
    with pytest.raises(RequestRefused, match=r"Job parameters .* are not defined in the job; `.*deployments bootstrap` creates or updates"):
        runner.run(VALIDATE, REQUEST, silent)
    assert twin.runs() == []


def test_runs_are_not_started_for_ever(runner: DatabricksJobs, twin: Twin) -> None:
    twin.endings = [("CLUSTER_ERROR", "CLOUD_FAILURE", "no capacity")] * (STARTS + 1)
    for _ in range(STARTS):
        with pytest.raises(Transient):
            runner.run(VALIDATE, REQUEST, silent)
    with pytest.raises(Terminal, match=f"{STARTS} runs of the job car-damage-ingest have ended without a report"):
        runner.run(VALIDATE, REQUEST, silent)
    assert len(twin.runs()) == STARTS


CALLS = [
    ("GET", "/jobs/list"),
    ("GET", "/jobs/runs/list"),
    ("GET", "/jobs/runs/get"),
    ("POST", "/jobs/run-now"),
    ("PUT", "/fs/files"),
    ("PUT", "/fs/directories"),
    ("GET", "/fs/files"),
    ("POST", "/fs/create-download-url"),
]
FAULTS = [429, 500, 502, 503, 504, "reset before", "reset after", "slow"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_may_fail_twice_and_it_is_one_run_all_the_same(runner: DatabricksJobs, twin: Twin, fault: int | str) -> None:
    faults = [twin.fault(method, path, fault, times=2) for method, path in CALLS]
    validated = runner.run(VALIDATE, REQUEST, silent)
    assert validated.accepted == 59
    assert runner.run(SILVER, silver_request(ValidateRequest("flow-1"), validated), silent).rows == 56
    assert len(twin.runs()) == 1
    assert [fault.path for fault in faults if not fault.seen] == []


def test_every_call_of_a_run_is_in_the_list_of_those_that_fail(runner: DatabricksJobs, twin: Twin, photos: None) -> None:
    runner.run(VALIDATE, REQUEST, silent)
    made = {call for call in twin.asked if "/api/" in call}
    known = tuple(f"{method} {path}" for method, path in CALLS)
    plain = {f"{call.split()[0]} /{call.split('/api/')[1].partition('/')[2]}" for call in made}
    assert [call for call in plain if not call.startswith(known)] == []


def test_a_workspace_that_is_away_for_longer_than_one_has_patience_is_told_and_may_be_tried_again(
    runner: DatabricksJobs, twin: Twin
) -> None:
    twin.fault("GET", "/jobs/list", 502, times=10_000)
    with pytest.raises(
        Unavailable, match=r"^stage validate: looking for the job car-damage-ingest: the workspace is temporarily unavailable"
    ):
        runner.run(VALIDATE, REQUEST, silent)


def test_a_token_that_is_refused_ends_it_at_once(runner: DatabricksJobs, twin: Twin) -> None:
    twin.pats.clear()
    with pytest.raises(RequestRefused, match=r"^stage validate: .* check the credentials"):
        runner.run(VALIDATE, REQUEST, silent)


@pytest.mark.usefixtures("photos")
def test_a_service_principal_s_token_is_made_anew_when_it_has_ended(
    twin: Twin, settings: Settings, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_service_principal(twin, monkeypatch)
    twin.lifetime = 2.0
    twin.cold = 4.0
    with disable_run_logger():
        assert make_runner(settings, seen).run(VALIDATE, REQUEST, silent).listed == 68
    assert len(twin.access) > 1


@pytest.mark.parametrize("jobs", [0, 2])
def test_there_must_be_one_job_of_the_name(runner: DatabricksJobs, twin: Twin, jobs: int) -> None:
    twin.jobs.clear()
    for _ in range(jobs):
        twin.make_job("car-damage-ingest")
    with pytest.raises(SettingsError, match=r"deployments bootstrap" if not jobs else "there are 2 jobs car-damage-ingest"):
        runner.run(VALIDATE, REQUEST, silent)


def test_a_cancelled_flow_run_ends_its_run_although_no_signal_came(runner: DatabricksJobs, twin: Twin, seen: Seen) -> None:
    twin.cold, seen.cancelled_when_linked = 3600, True
    with pytest.raises(Terminal, match="the flow run is being cancelled, and its run in Databricks was cancelled: https://"):
        runner.run(VALIDATE, REQUEST, silent)
    assert ended(twin) == ["USER_CANCELED"]


def test_a_flow_run_that_is_being_cancelled_starts_no_run(runner: DatabricksJobs, twin: Twin, seen: Seen) -> None:
    seen.cancelled = True
    with pytest.raises(Terminal, match="the flow run is being cancelled"):
        runner.run(VALIDATE, REQUEST, silent)
    assert twin.runs() == []


def test_a_flow_run_is_cancelled_also_while_the_workspace_is_away(runner: DatabricksJobs, twin: Twin, seen: Seen) -> None:
    twin.cold, seen.cancelled_when_linked = 3600, True
    twin.fault("POST", "/jobs/runs/cancel", 502, times=10_000)
    with pytest.raises(Terminal, match="its run in Databricks could not be cancelled, as the workspace does not answer"):
        runner.run(VALIDATE, REQUEST, silent)


def test_how_far_the_job_is_shows_here(runner: DatabricksJobs, twin: Twin, seen: Seen) -> None:
    twin.cold = 3600
    place, steps = (
        Place.of(HANDOVERS, "validate", REQUEST),
        [handover.Step("validate", 5, 68), handover.Step("validate", 9, 68, "2 rejected")],
    )

    def told(*given: Any) -> None:
        seen.progress.append(given)
        if steps:
            handover.write_progress(Volume(), place, steps.pop(0))
        else:
            seen.cancelled = True

    handover.write_progress(Volume(), place, steps.pop(0))
    with pytest.raises(Terminal, match="being cancelled"):
        runner.run(VALIDATE, REQUEST, told)
    assert seen.progress == [("validate", 5, 68, ""), ("validate", 9, 68, "2 rejected")]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"life_cycle_state": "PENDING"}, (False, True, "")),
        ({"life_cycle_state": "RUNNING"}, (False, False, "")),
        ({"life_cycle_state": "TERMINATED", "result_state": "SUCCESS"}, (True, False, "SUCCESS")),
        ({"life_cycle_state": "TERMINATED", "result_state": "FAILED", "state_message": "no"}, (True, False, "FAILED: no")),
        ({"life_cycle_state": "INTERNAL_ERROR", "state_message": "no"}, (True, False, "INTERNAL_ERROR: no")),
        ({"life_cycle_state": "SKIPPED"}, (True, False, "SKIPPED")),
    ],
)
def test_a_workspace_that_has_only_the_older_words_is_understood(state: dict[str, str], expected: tuple[bool, bool, str]) -> None:
    from databricks.sdk.service.jobs import BaseRun

    run = jobs._run(BaseRun.from_dict({"run_id": 7, "run_page_url": "https://x", "state": state}))
    assert (run.ended, run.waiting, run.why) == expected
    assert run.succeeded == (state.get("result_state") == "SUCCESS")
    assert run.passing == (state["life_cycle_state"] == "INTERNAL_ERROR")


def test_the_end_of_a_flow_run_is_the_end_of_its_runs_and_of_no_others(runner: DatabricksJobs, twin: Twin, settings: Settings) -> None:
    twin.cold = 3600
    ingest = next(iter(twin.jobs))
    for flow_run in ("flow-1", "flow-2"):
        runner._workspace.start(ingest, {"flow_run": flow_run, "request": "/x", "stages": "validate"}, flow_run)
    runner._workspace.start(ingest, {"flow_run": "flow-1", "request": "/y", "stages": "silver"}, "lagging")
    for path in ("/jobs/list", "/jobs/runs/list", "/jobs/runs/cancel"):
        for method in ("GET", "POST"):
            twin.fault(method, path, 502, times=2)
    runner.cancel("flow-1")
    assert Jobs().live(ingest, "flow-1") == []
    assert len(Jobs().live(ingest, "flow-2")) == 1


def test_a_job_that_is_missing_keeps_no_other_from_being_ended(runner: DatabricksJobs, twin: Twin) -> None:
    twin.cold = 3600
    ingest, train, *_ = twin.jobs
    runner._workspace.start(train, {"flow_run": "flow-1", "request": "/x", "stages": "train"}, "t")
    del twin.jobs[ingest]
    with pytest.raises(SettingsError, match="there is no job car-damage-ingest"):
        runner.cancel("flow-1")
    assert Jobs().live(train, "flow-1") == []


def test_a_run_that_takes_too_long_is_ended_before_that_is_told(runner: DatabricksJobs, twin: Twin) -> None:
    twin.cold = 3600
    with pytest.raises(Terminal, match=r"it took longer than .* hours, and its run in Databricks was cancelled: see https://"):
        runner.run(replace(VALIDATE, deadline=100.0), REQUEST, silent)
    assert ended(twin) == ["USER_CANCELED"]


@pytest.mark.parametrize("task", [validate_images, write_silver, train_model, register_model, score_photos, look_at_requests])
def test_the_runner_ends_a_run_before_prefect_ends_the_task(task: Any) -> None:
    stage = {
        "validate_images": "validate",
        "write_silver": "silver",
        "train_model": "train",
        "register_model": "register",
        "look_at_requests": "monitor",
    }
    deadline = stage_named(stage.get(task.name, "score")).deadline
    # The workspace may be unavailable for the runner's whole patience just before the run is cancelled.
    assert task.timeout_seconds - deadline >= databricks_jobs.ENDING + Settings().databricks.patience


def test_what_only_talks_to_services_runs_here(runner: DatabricksJobs, twin: Twin) -> None:
    here = replace(LIVE, work=lambda request, platform, progress: LiveReport(request.training_key, None, None, None, None))
    assert runner.run(here, LiveRequest("key"), silent).run_id == "key"
    assert not any("jobs" in call for call in twin.asked)


@pytest.mark.usefixtures("photos")
def test_a_failure_that_an_earlier_run_left_is_not_told_again(runner: DatabricksJobs, twin: Twin) -> None:
    place = Place.of(HANDOVERS, "validate", REQUEST)
    twin.endings = [("RUN_EXECUTION_ERROR", "CLIENT_ERROR", "")]
    with pytest.raises(Terminal):
        runner.run(VALIDATE, REQUEST, silent)
    handover.write_failure(Volume(), place, twin.runs()[0].run_id, LandingLost("stage validate: far too few"))
    assert runner.run(VALIDATE, REQUEST, silent).listed == 68
    assert isinstance(handover.read_failure(Volume(), place, twin.runs()[0].run_id), LandingLost)


@pytest.mark.usefixtures("photos")
def test_a_second_run_of_the_same_job_waits_for_the_first_and_does_nothing_again(
    runner: DatabricksJobs, twin: Twin, settings: Settings
) -> None:
    """This happens when a listing of runs lags behind a start."""
    validated = runner.run(VALIDATE, REQUEST, silent)
    ingest = next(iter(twin.jobs))
    place = Place.of(HANDOVERS, "validate", REQUEST)
    again = runner._workspace.start(ingest, {"flow_run": "flow-1", "request": place.request, "stages": "validate,silver"}, "lagging")
    deadline = time.monotonic() + 60
    while not Jobs().look(again).ended and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ended(twin) == ["SUCCESS", "SUCCESS"]
    assert handover.read_report(Volume(), place, ValidateReport) == validated
    silver = Place.of(HANDOVERS, "silver", silver_request(ValidateRequest("flow-1"), validated))
    assert handover.read_report(Volume(), silver, SilverReport).silver_version >= 0


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("ending", "more"),
    [(("SUCCESS", "SUCCESS", ""), 1), (("CLUSTER_ERROR", "CLOUD_FAILURE", ""), 1), (("USER_CANCELED", "CLIENT_ERROR", ""), 0)],
)
def test_a_run_that_was_found_is_followed_by_another_only_where_that_may_help(
    runner: DatabricksJobs, twin: Twin, seen: Seen, ending: tuple[str, str, str], more: int
) -> None:
    twin.cold = 3600
    ingest = next(iter(twin.jobs))
    runner._workspace.start(ingest, {"flow_run": "flow-1", "request": "/x", "stages": "validate"}, "found")

    def go_on() -> None:
        twin.cold, twin.endings = 0, [ending]

    seen.when_linked = go_on
    if more:
        assert runner.run(VALIDATE, REQUEST, silent).listed == 68
    else:
        with pytest.raises(Terminal, match="USER_CANCELED"):
            runner.run(VALIDATE, REQUEST, silent)
    assert len(twin.runs()) == 1 + more


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    "away",
    [("POST", "/oidc/v1/token", kind) for kind in (429, 500, 503, "reset before")]
    + [("GET", "/.well-known/databricks-config", kind) for kind in (500, 503)],
)
def test_what_gives_out_tokens_may_be_away_for_a_while(
    twin: Twin, settings: Settings, seen: Seen, monkeypatch: pytest.MonkeyPatch, away: tuple[str, str, int | str]
) -> None:
    as_service_principal(twin, monkeypatch)
    fault = twin.fault(*away, times=3)
    with disable_run_logger():
        assert make_runner(settings, seen).run(VALIDATE, REQUEST, silent).listed == 68
    assert fault.seen == 3


def test_a_secret_that_is_wrong_is_told_at_once(twin: Twin, settings: Settings, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    as_service_principal(twin, monkeypatch)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", "wrong")
    with disable_run_logger(), pytest.raises(RequestRefused, match="finds no usable credentials: invalid_client"):
        make_runner(settings, seen).run(VALIDATE, REQUEST, silent)


def test_training_is_the_other_job_s(runner: DatabricksJobs, twin: Twin) -> None:
    from car_damage.pipeline import TrainRequest

    twin.endings = [("RUN_EXECUTION_ERROR", "CLIENT_ERROR", "")]
    with pytest.raises(Terminal, match="of the job car-damage-train"):
        runner.run(TRAIN, TrainRequest("flow-1", 0, "f", "k"), silent)
    assert twin.runs()[0].parameters["stages"] == "train,register"


def test_runs_of_every_job_are_work_underway_whatever_flow_run_they_work_for(runner: DatabricksJobs, twin: Twin) -> None:
    assert runner.underway() == []
    twin.cold = 3600
    for number, job in enumerate(list(twin.jobs)[:2]):
        runner._workspace.start(job, {"flow_run": f"killed-{number}", "request": "/x", "stages": "validate"}, f"token {number}")
    assert sorted(runner.underway()) == sorted(runner.jobs.look(run.run_id).url for run in twin.runs())
    assert len(runner.underway()) == 2
    for run in twin.runs():
        runner.jobs.cancel(run.run_id)
    twin.jobs.clear()
    assert runner.underway() == [], "a job that is not there has no run"
