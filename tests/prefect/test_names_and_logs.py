"""What a person sees first, on a real Prefect server: the names of runs, and the library's lines in their logs."""

import logging
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.testing
from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings
from prefect.states import Scheduled

from car_damage.errors import Terminal
from car_damage.pipeline import ValidateReport
from flows import promote
from tasks import by_hand, naming

REPORT = ValidateReport(60, 57, {}, (), 0, 0, 0, 3, "f" * 64)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (REPORT, "57 new photos"),
        (ValidateReport(60, 1, {"empty": 2, "truncated": 1}, (), 0, 1, 0, 3, ""), "1 new photo, 3 rejected"),
        (ValidateReport(60, 0, {}, ("a",), 1, 0, 4, 3, ""), "4 gone, 1 not readable"),
        (ValidateReport(60, 0, {}, (), 0, 0, 0, 3, ""), "no new photos"),
    ],
)
def test_what_landed_is_said_in_a_few_words(report: ValidateReport, said: str) -> None:
    assert naming.found(report) == said


def test_outside_of_a_flow_run_nothing_is_renamed() -> None:
    naming.rename("57 new photos")


@pytest.mark.usefixtures("server")
def test_a_run_is_renamed_by_what_it_finds_and_keeps_that_name_when_it_is_retried() -> None:
    finds = ["57 new photos", None]
    ids = []

    @flow(name="named", flow_run_name=lambda: naming.initial("named"))
    def named() -> None:
        ids.append(uuid.UUID(str(runtime.flow_run.id)))
        if (found := finds.pop(0)) is not None:
            naming.rename("an earlier attempt")
            naming.rename(found)

    named()
    with get_client(sync_client=True) as client:
        name = client.read_flow_run(ids[0]).name
        assert name == f"{name.partition(' · ')[0]} · 57 new photos"
        assert name.startswith("named 20")
        client.set_flow_run_state(ids[0], Scheduled(), force=True)
        run_flow(named, flow_run=client.read_flow_run(ids[0]))
        assert ids[1] == ids[0]
        assert client.read_flow_run(ids[0]).name == name


@pytest.mark.usefixtures("server")
def test_a_run_says_in_its_name_which_options_it_was_asked_for() -> None:
    names = []

    @flow(name="asked", flow_run_name=lambda: naming.initial("asked"))
    def asked(dry_run: bool, judge_again: bool, train_again: bool) -> None:
        del dry_run, judge_again, train_again
        naming.rename("57 new photos")
        with get_client(sync_client=True) as client:
            names.append(client.read_flow_run(uuid.UUID(str(runtime.flow_run.id))).name)

    asked(True, False, True)
    assert re.fullmatch(r"asked 20\d\d-\d\d-\d\d, dry run, train again · 57 new photos", names[0])


ERRORS = """
from prefect import flow
from car_damage.errors import Terminal, UnexpectedError
from tasks import by_hand

@flow(name="foreseen")
def foreseen():
    raise Terminal("give another folder")

@flow(name="unforeseen")
def unforeseen():
    raise UnexpectedError("a bug")

print(by_hand.run(foreseen).name)
print("half", file=__import__("sys").stderr)
print(by_hand.run(unforeseen).name)
"""


def test_an_error_that_was_foreseen_is_a_sentence_in_the_terminal_and_whole_in_the_run_s_log(server: str, tmp_path: Path) -> None:
    variables = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": server}
    done = subprocess.run(
        [sys.executable, "-c", ERRORS], env=os.environ | variables, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["Failed", "Failed"]
    foreseen, unforeseen = done.stderr.split("\nhalf\n")
    assert "give another folder" in foreseen
    assert "Traceback" not in foreseen
    assert "Traceback" in unforeseen
    with get_client(sync_client=True) as client:
        runs = client.request("POST", "/flow_runs/filter", json={"flows": {"name": {"any_": ["foreseen"]}}}).json()
        lines = client.request("POST", "/logs/filter", json={"logs": {"flow_run_id": {"any_": [runs[0]["id"]]}}}).json()
    assert any("Traceback" in line["message"] and "give another folder" in line["message"] for line in lines)


NEEDY = """
import httpx
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.concurrency.sync import concurrency
from tasks import by_hand
from tasks.stages import ENDPOINT_LIMIT

@flow(name="needy")
def needy():
    with concurrency(ENDPOINT_LIMIT, strict=True):
        api = PREFECT_API_URL.value() or get_client(sync_client=True).api_url
        return f"had its turn, and without a password {httpx.get(f'{api}/admin/version').status_code}"

print(by_hand.run(needy).result())
"""


def test_a_server_that_prefect_starts_for_a_run_by_hand_has_what_the_flow_needs(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    variables |= {"PREFECT_HOME": str(tmp_path), "CAR_DAMAGE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", NEEDY], env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert "had its turn, and without a password 401" in done.stdout, done.stderr


def test_a_run_by_hand_ends_at_once_where_no_endpoint_answers(tmp_path: Path) -> None:
    variables = {
        "CAR_DAMAGE_HOME": str(tmp_path),
        "CAR_DAMAGE_SERVING__HOST": "http://127.0.0.1:9",
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }
    done = subprocess.run(
        [sys.executable, "-m", "flows.retrain"], env=os.environ | variables, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    told = done.stderr.strip().splitlines()[-1]
    assert told.startswith("error: ")
    assert "car-damage serve" in told
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("server")
def test_ctrl_c_in_a_terminal_cleans_up_as_a_cancellation_does() -> None:
    told = []

    def clean(flow: Any, flow_run: Any, state: Any) -> None:
        told.append(state.name)

    @flow(name="interrupted", on_cancellation=[clean])
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        by_hand.run(interrupted)
    assert told == ["Crashed"]


@pytest.mark.usefixtures("server")
def test_a_server_that_prefect_starts_for_a_run_by_hand_has_time_to_start_unless_a_person_says_otherwise() -> None:
    waits = []

    @flow(name="waits")
    def looks() -> None:
        waits.append(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())

    by_hand.run(looks)
    with temporary_settings(updates={PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 7}):
        by_hand.run(looks)
    assert waits == [by_hand.SERVER_START, 7]


def test_a_record_that_one_handler_shows_without_its_traceback_still_has_it_for_the_others() -> None:
    error = Terminal("give another folder")
    record = logging.LogRecord("flow", logging.ERROR, __file__, 1, "it failed", None, (Terminal, error, error.__traceback__))
    whole = logging.Formatter()
    assert by_hand._MessageFormatter(whole).format(record) == "it failed"
    assert "give another folder" in whole.format(record)


def test_a_person_s_word_without_a_reason_is_refused_before_a_run_is_made() -> None:
    app = typer.Typer()
    app.command()(promote.main)
    told = typer.testing.CliRunner().invoke(app, ["--reason", " "])
    assert told.exit_code == 2
    assert "--reason: give a reason" in told.output


SCRIPT = """
import logging
from prefect import flow
from car_damage.pipeline import ValidateRequest
from car_damage.settings_sources import load
from tasks.runner import runner_for
from tasks.stages import validate_images

@flow(name="logs")
def logs():
    validate_images(ValidateRequest("flow"), runner_for(load()))

logging.getLogger("car_damage").warning("before any run")
logs()
"""


def test_the_library_s_log_lines_reach_the_run_s_log_in_the_ui(server: str, tmp_path: Path) -> None:
    (tmp_path / "landing" / "minor").mkdir(parents=True)
    (tmp_path / "landing" / "minor" / "lost.jpg").symlink_to("/nowhere/lost.jpg")
    variables = {
        "CAR_DAMAGE_HOME": str(tmp_path),
        "CAR_DAMAGE_LANDING__FOLDER": str(tmp_path / "landing"),
        # `deployments.stack` sets these for every process that runs a flow.
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": server,
        "PREFECT_LOGGING_EXTRA_LOGGERS": "car_damage",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    command = [sys.executable, "-W", "error:Logger:UserWarning", "-c", SCRIPT]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    with get_client(sync_client=True) as client:
        runs = client.request("POST", "/flow_runs/filter", json={"flows": {"name": {"any_": ["logs"]}}}).json()
        wanted = {"logs": {"flow_run_id": {"any_": [runs[0]["id"]]}}, "limit": 200}
        lines = client.request("POST", "/logs/filter", json=wanted).json()
    told = {line["message"]: line for line in lines if line["name"] == "car_damage.stages.validate"}
    (line,) = told.values()
    assert line["message"].startswith("1 of 1 new files could not be read; the next run tries them again.")
    assert line["task_run_id"]
    assert "before any run" in done.stderr
