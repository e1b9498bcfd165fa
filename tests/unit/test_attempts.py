"""A run that never ends is not restarted forever, and two starts of one run never work at the same time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import AwaitingConcurrencySlot, AwaitingRetry, Cancelled, Completed, Crashed, Failed, Late, Pending, Running, Scheduled

from car_damage.errors import Terminal
from tasks import attempts
from tasks.attempts import LOST, MOST, STOPPED, again, ended, losses, take_over
from tasks.run_processes import FLOW_RUN, end, of_server

API = f"http://127.0.0.1:1/{uuid4()}"
"""No server has this address, and no other test run uses it."""


BEGUN = [Scheduled(), Pending(), Running()]
TAKEN = [Scheduled(), Pending(), Pending(name="Submitting")]
BY_LOSS, BY_MAKE_UP = AwaitingRetry(message=f"{LOST} 120 s: started again"), AwaitingRetry(message=f"{STOPPED}: started again")
IN_UI, BY_COMMAND = AwaitingRetry(message="Retry from the UI"), Scheduled(message="Retried via CLI")
WAITING = [Late(), AwaitingConcurrencySlot(), Pending(), Running()]
"""A run waits for a worker and then for a slot, and begins."""


def started(monkeypatch: pytest.MonkeyPatch, times: int) -> UUID:
    """Make Prefect report a flow run that was lost and started again until it had this many starts."""
    run = uuid4()
    states = [*BEGUN, *([BY_LOSS, Pending(), Running()] * (times - 1))]
    monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(flow_run=SimpleNamespace(run_count=times, id=run)))
    monkeypatch.setattr(attempts, "states_of", lambda run: states)
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
    with pytest.raises(Terminal, match=r"this run was lost 5 times: .* start a new run"):
        take_over()


@pytest.mark.parametrize("ending", [Completed(name="Promoted"), Failed(), Crashed(), Cancelled()])
@pytest.mark.parametrize("restart", [BY_LOSS, BY_MAKE_UP])
def test_a_run_that_had_ended_is_not_begun_again_by_anything_but_a_person(ending: State, restart: State) -> None:
    assert ended([*BEGUN, ending, restart, Pending(), Running()]) is ending
    assert ended([*BEGUN, ending, restart, *WAITING]) is ending
    assert ended([*BEGUN, ending, restart, *TAKEN[1:], BY_LOSS, Pending(), Running()]) is ending
    assert ended([*TAKEN, ending, restart, Pending(), Running()]) is ending
    for retry in (IN_UI, BY_COMMAND):
        assert ended([*BEGUN, ending, retry, *WAITING]) is None
        assert ended([*BEGUN, ending, retry, Pending(), Running(), restart, *WAITING]) is None
        assert ended([*BEGUN, ending, retry, Pending(), Running(), ending, restart, *WAITING]) is ending


def test_a_run_that_never_ended_goes_on() -> None:
    assert ended([]) is None
    assert ended([Pending(), Running()]) is None  # in a terminal
    assert ended(BEGUN) is None
    assert ended([*BEGUN, BY_MAKE_UP, *WAITING]) is None
    assert ended([*TAKEN, BY_LOSS, *WAITING]) is None


def test_losses_are_counted_whether_the_flow_began_or_not_and_anew_after_a_retry_by_a_person() -> None:
    assert losses([*BEGUN, BY_LOSS, *TAKEN[1:], BY_MAKE_UP, *WAITING]) == 2
    assert losses([*TAKEN, BY_LOSS, *TAKEN[1:], BY_LOSS, *TAKEN[1:]]) == 2
    assert losses([*BEGUN, AwaitingRetry(), *BEGUN[1:], AwaitingRetry(), *WAITING]) == 2  # a pod that was evicted twice
    assert losses([*BEGUN, *([BY_LOSS, Pending()] * MOST), Failed(), IN_UI, *WAITING, BY_LOSS, *WAITING]) == 1


@pytest.mark.parametrize(("lost", "name"), [(MOST - 1, "AwaitingRetry"), (MOST, "Failed")])
def test_make_up_starts_a_run_again_until_it_was_lost_five_times(monkeypatch: pytest.MonkeyPatch, lost: int, name: str) -> None:
    monkeypatch.setattr(attempts, "states_of", lambda run: [*TAKEN, *([BY_MAKE_UP, *TAKEN[1:]] * lost)])
    assert again(SimpleNamespace(), f"{STOPPED}: started again").name == name  # type: ignore[arg-type]


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
