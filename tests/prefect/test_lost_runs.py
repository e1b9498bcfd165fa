"""Runs that are lost, and runs that only seem so, on a real Prefect server with the automations of this service."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import Event, emit_event
from prefect.events.related import tags_as_related_resources
from prefect.flow_engine import run_flow
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running

from car_damage.settings import Alerts
from deployments import automations
from deployments.items import bootstrap
from flows.promote import promote
from tasks import attempts, run_processes, succession
from tasks.attempts import ENDED, LOST, MOST, TOO_OFTEN, again, states_of, tell_end
from tests.prefect.service import until

pytestmark = pytest.mark.usefixtures("server")
SILENCE = timedelta(seconds=10)
"""How long a run may be silent: Prefect's least. The server looks every five seconds."""


def created(state: State[Any]) -> FlowRun:
    """A run of ours in this state, without a process."""
    with get_client(sync_client=True) as client:
        return client.create_flow_run(promote, parameters={"reason": "a test"}, tags=["car-damage"], state=state)


def set_states(run: FlowRun, *states: State[Any]) -> None:
    with get_client(sync_client=True) as client:
        for state in states:
            client.set_flow_run_state(run.id, state, force=True)


def state_of(run: FlowRun) -> State[Any]:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    assert state is not None
    return state


def emit(run: FlowRun, name: str, **more: Any) -> None:
    """Emit an event of this run."""
    emit_event(name, {"prefect.resource.id": f"prefect.flow-run.{run.id}"}, related=tags_as_related_resources(run.tags), **more)


def lost(run: FlowRun) -> State[Any]:
    return again(run, f"{LOST} 120 s: started again")


def test_a_run_has_ended_though_the_server_waits_for_an_event_from_before_its_restart() -> None:
    bootstrap(automations.items(Alerts.model_construct(**{**Alerts().model_dump(), "zombie_after": SILENCE.total_seconds()})))
    over, silent = created(Running()), created(Running())
    before = Event(
        event="prefect.flow-run.Running", resource={"prefect.resource.id": f"prefect.flow-run.{over.id}"}, occurred=datetime.now(UTC)
    )
    emit(over, "prefect.flow-run.heartbeat")
    emit(over, "prefect.flow-run.Promoted", follows=before)
    # Its time is up later, and then that of the other is up, too.
    emit(silent, "prefect.flow-run.heartbeat", occurred=datetime.now(UTC) + SILENCE)

    def noticed() -> bool:
        tell_end(None, over, Completed(name="Promoted"))  # more than once: of two events of one moment the server may take the second first
        return state_of(silent).name == "AwaitingRetry"

    until(noticed, "a run without a heartbeat is lost")
    assert state_of(over).name == "Running"


@pytest.mark.parametrize(
    "ending",
    [
        lambda: Completed(name="Promoted", message="Version 2 is live."),
        lambda: Failed(message="stage train: no photos"),
        Crashed,
        Cancelled,
    ],
)
def test_a_run_that_had_ended_ends_in_the_same_way_when_it_is_started_again(
    monkeypatch: pytest.MonkeyPatch, ending: Callable[[], State[Any]]
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(attempts.events, "send", lambda event, resource, *_: told.append((event, resource["prefect.resource.id"])))
    run, first = created(Running()), ending()
    set_states(run, first, lost(run), Pending())
    with get_client(sync_client=True) as client:
        second = run_flow(promote, flow_run=client.read_flow_run(run.id), return_type="state")
    assert isinstance(second, State)
    assert (second.type, second.name, second.message) == (first.type, first.name, first.message)
    names = [state.name for state in states_of(run)]
    assert names == ["Running", first.name, "AwaitingRetry", "Pending", "Running", first.name]
    assert set(told) == {(ENDED, f"prefect.flow-run.{run.id}")}


def test_a_run_that_is_lost_each_time_before_its_flow_begins_is_not_started_for_ever() -> None:
    bootstrap(automations.items(Alerts()))
    run = created(Pending())
    for _ in range(MOST - 1):
        set_states(run, lost(run), Pending())
    set_states(run, lost(run))
    until(lambda: state_of(run).is_final(), "the run fails")
    assert (state_of(run).name, state_of(run).message) == ("Failed", TOO_OFTEN)


def test_a_process_on_another_machine_ends_when_its_run_is_started_again() -> None:
    run = created(Pending())
    code = (
        "import os, subprocess, sys, threading; from prefect.client.orchestration import get_client; from tasks import succession;"
        "succession.LOOK = 0.2; child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE);"
        "client = get_client(sync_client=True); succession.watch(client.__enter__().read_flow_run(os.environ['PREFECT__FLOW_RUN_ID']));"
        "print(child.pid, flush=True); threading.Event().wait(120); sys.exit(1)"
    )
    set_states(run, Running())
    environment = os.environ | get_current_settings().to_environment_variables(exclude_unset=True) | {run_processes.FLOW_RUN: str(run.id)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        set_states(run, lost(run), Pending(), Running())
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not child.is_running()
    assert [state.name for state in states_of(run)][-1] == "Running"


def test_a_process_that_no_worker_has_started_does_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession.threading, "Thread", lambda **_: pytest.fail("it looks"))
    succession.watch(created(Pending()))
