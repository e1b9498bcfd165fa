"""Runs that end without a report, that Databricks retries, or that never end. Each is reported, and no work is done twice."""

import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from car_damage.adapters.databricks.volume import Volume
from car_damage.errors import Terminal
from car_damage.job import handover
from car_damage.job.handover import Place
from car_damage.job.jobs import TRACE, Jobs
from car_damage.pipeline import ValidateReport, ValidateRequest, silver_request
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.validate import STAGE as VALIDATE
from tasks import databricks_jobs
from tasks.databricks_jobs import DatabricksJobs
from tests.databricks.conftest import HANDOVERS, Seen, make_runner
from tests.databricks.twin import Twin

REQUEST = ValidateRequest("flow-1")


def break_the_wheel(twin: Twin, source: str) -> None:
    """Replace a module that the entry point imports with this source."""
    [wheel] = twin.volume("/Volumes/insurance_uc/ops/wheels/").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, source if name == "car_damage/errors.py" else data)


@pytest.mark.parametrize("fault", ["", "404", "503"])
def test_a_run_that_dies_before_it_can_say_why_is_told_with_the_error_and_the_end_of_its_trace(
    runner: DatabricksJobs, twin: Twin, fault: str
) -> None:
    break_the_wheel(twin, f"# {'x' * 5000}\nraise ImportError('this wheel is broken')\n")
    if fault:
        twin.fault("GET", "/jobs/runs/get-output", int(fault), times=100)
    with pytest.raises(Terminal) as raised:
        runner.run(VALIDATE, REQUEST, silent)
    first, *rest = str(raised.value).splitlines()
    told = "Task stages failed with message: Workload failed, see run output for details."
    assert first.endswith(f" ended without a report: RUN_EXECUTION_ERROR: {told}")
    assert first.startswith(f"stage validate: the run {twin.host}/?o=1234#job/")
    if fault:
        assert rest == []  # a failed fetch of the output does not hide the error
    else:
        assert rest[0] == "ImportError: this wheel is broken"
        assert 'errors.py", line 2, in <module>' in "\n".join(rest)
        assert len("\n".join(rest)) <= 2 * TRACE + 1


def test_a_workload_that_is_broken_is_started_once_although_its_life_ends_with_an_internal_error(
    runner: DatabricksJobs, twin: Twin
) -> None:
    twin.old_words = True
    break_the_wheel(twin, "raise ImportError('this wheel is broken')\n")
    with pytest.raises(Terminal, match=r"ended without a report: FAILED: Task stages failed with message: Workload failed"):
        runner.run(VALIDATE, REQUEST, silent)
    [run] = twin.runs()
    assert twin._shown(run)["state"]["life_cycle_state"] == "INTERNAL_ERROR"


def test_a_long_error_is_told_by_its_beginning_and_a_long_trace_by_its_end(runner: DatabricksJobs, twin: Twin) -> None:
    break_the_wheel(twin, "raise ImportError('begin' + 'x' * 20_000 + 'end')\n")
    with pytest.raises(Terminal) as raised:
        runner.run(VALIDATE, REQUEST, silent)
    error, trace = str(raised.value).splitlines()[1:]
    assert (len(error), len(trace)) == (TRACE, TRACE)
    assert error.startswith("ImportError: beginxxx")
    assert trace.endswith("xxxend")


def test_a_request_that_is_gone_is_told_by_the_job_itself(runner: DatabricksJobs, twin: Twin) -> None:
    ingest = next(iter(twin.jobs))
    gone = f"{HANDOVERS}flow-1/validate/none.request.json"
    run = runner._workspace.start(ingest, {"flow_run": "flow-1", "request": gone, "stages": "validate"}, "t")
    wait_for_the_end(run)
    assert "none.request.json is not there" in Jobs().output(run)


@pytest.mark.usefixtures("photos")
def test_a_run_that_databricks_itself_tries_again_after_a_loss_ends_in_one_report(runner: DatabricksJobs, twin: Twin) -> None:
    twin.retried = ["killed"]
    validated = runner.run(VALIDATE, REQUEST, silent)
    assert (validated.accepted, validated.new) == (59, 68)
    assert runner.run(SILVER, silver_request(ValidateRequest("flow-1"), validated), silent).rows == 56
    [run] = twin.runs()
    assert len(run.task_run_ids) == 2


@pytest.mark.usefixtures("photos")
def test_a_run_that_databricks_itself_does_once_more_does_nothing_again(runner: DatabricksJobs, twin: Twin, settings: Settings) -> None:
    from deltalake import DeltaTable

    twin.retried = ["ended"]
    validated = runner.run(VALIDATE, REQUEST, silent)
    silver = runner.run(SILVER, silver_request(ValidateRequest("flow-1"), validated), silent)
    [run] = twin.runs()
    wait_for_the_end(run.run_id)
    assert (len(run.task_run_ids), run.code) == (2, "SUCCESS")
    said = [line.partition(" INFO ")[2] for line in Path(run.output).read_text().splitlines() if " INFO " in line]
    assert said == ["stage validate: done", "stage silver: done"]  # no line for a step: the second attempt repeats none
    versions = {path.parent.name: DeltaTable(path.parent).version() for path in (settings.home / "tables").rglob("_delta_log")}
    # Silver marks duplicate photos in bronze, which adds one version after validate.
    assert versions == {"raw_images": validated.bronze_version + 1, "training_images": silver.silver_version, "splits": 0}
    assert handover.read_report(Volume(), Place.of(HANDOVERS, "validate", REQUEST), ValidateReport) == validated


def test_the_trace_is_that_of_the_last_try(runner: DatabricksJobs, twin: Twin) -> None:
    break_the_wheel(twin, "import os\nraise ImportError(f'broken in process {os.getpid()}')\n")
    twin.retried = ["ended"]
    with pytest.raises(Terminal) as raised:
        runner.run(VALIDATE, REQUEST, silent)
    [run] = twin.runs()
    assert run.process
    assert f"\nImportError: broken in process {run.process.pid}\n" in str(raised.value)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "TERMINATING"])
def test_a_run_that_never_ends_is_asked_to_and_waited_for_no_longer_than_is_said(
    twin: Twin, settings: Settings, seen: Seen, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databricks_jobs, "ENDING", 200.0)
    runner = make_runner(settings, seen)
    twin.stuck = state
    wanted = (
        r"^stage validate: it took longer than .* hours, and its run in Databricks is being cancelled, and has not ended yet: see https://"
    )
    with disable_run_logger(), pytest.raises(Terminal, match=wanted):
        runner.run(replace(VALIDATE, deadline=100.0), REQUEST, silent)
    [run] = twin.runs()
    assert run.cancelled
    clock = runner.platform.clock
    assert 300 <= clock.waited <= 300 + 3 * settings.databricks.poll  # type: ignore[attr-defined]
    assert sum(call == "POST /api/2.2/jobs/runs/cancel" for call in twin.asked) == 1


def wait_for_the_end(run_id: int) -> None:
    deadline = time.monotonic() + 120
    while not Jobs().look(run_id).ended:
        assert time.monotonic() < deadline
        time.sleep(0.1)
