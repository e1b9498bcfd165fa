"""A run that never ends is not started for ever."""

from types import SimpleNamespace

import pytest
from prefect.context import FlowRunContext

from car_damage.errors import Terminal
from tasks.attempts import MOST, check_attempts


def started(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """As Prefect tells of a flow run that was started so often."""
    monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(flow_run=SimpleNamespace(run_count=times)))


def test_a_run_may_be_started_five_times(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, MOST)
    check_attempts()


def test_the_sixth_start_is_refused_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, MOST + 1)
    with pytest.raises(Terminal, match=r"this run was started 6 times and never ended: .* start a new run"):
        check_attempts()


def test_outside_of_a_flow_run_nothing_is_counted() -> None:
    check_attempts()
