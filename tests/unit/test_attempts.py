"""A run that never ends is not restarted forever, and two starts of one run never work at the same time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.context import FlowRunContext

from car_damage.errors import Terminal
from tasks import attempts
from tasks.attempts import MOST, take_over
from tasks.run_processes import FLOW_RUN, end, of_server

API = f"http://127.0.0.1:1/{uuid4()}"
"""No server has this address, and no other test run uses it."""


def started(monkeypatch: pytest.MonkeyPatch, times: int) -> UUID:
    """Make Prefect report a flow run that was started this often."""
    run = uuid4()
    monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(flow_run=SimpleNamespace(run_count=times, id=run)))
    monkeypatch.setattr(attempts, "get_run_logger", lambda: SimpleNamespace(warning=lambda *_: None))
    return run


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The process that a dead worker leaves from a run's first start, in its own session. The run is in its second start."""
    starter = (
        "import subprocess, sys; "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], "
        "start_new_session=True, stdout=subprocess.DEVNULL).pid, flush=True)"
    )
    environment = os.environ | {FLOW_RUN: str(started(monkeypatch, 2)), "PREFECT_API_URL": API}
    done = subprocess.run([sys.executable, "-c", starter], env=environment, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    yield int(done.stdout)
    end(of_server(API))


def test_a_run_may_be_started_five_times(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, MOST)
    take_over()


def test_the_sixth_start_is_refused_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, MOST + 1)
    with pytest.raises(Terminal, match=r"this run was started 6 times: .* start a new run"):
        take_over()


def test_outside_of_a_flow_run_nothing_is_counted() -> None:
    take_over()


def test_an_earlier_start_that_still_goes_on_here_is_ended(left: int) -> None:
    assert [found.pid for found in of_server(API)] == [left]
    take_over()
    assert of_server(API) == []


def test_another_run_is_left_alone(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, 2)
    take_over()
    assert [found.pid for found in of_server(API)] == [left]


def test_what_a_start_has_itself_begun_and_what_it_comes_from_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = started(monkeypatch, 2)
    waiting = [sys.executable, "-c", "input()"]  # ends when this test closes its input, even if the test fails
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, env=os.environ | {FLOW_RUN: str(run), "PREFECT_API_URL": API}) as child:
        take_over()
        assert [found.pid for found in of_server(API)] == [child.pid]
    found = f"'{sys.executable}' -c 'from tasks.run_processes import of_run; print(of_run(\"{run}\"))'; exit $?"
    done = subprocess.run(
        ["/bin/sh", "-c", found], env=os.environ | {FLOW_RUN: str(run)}, stdout=subprocess.PIPE, text=True, timeout=120, check=True
    )
    assert done.stdout == "[]\n"
