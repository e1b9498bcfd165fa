"""The endpoint update is retried after a fault at any of its calls, and ends as if there had been no fault.

Prefect retries a stage after every Transient. The call either failed before it took effect, or its answer was lost.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pytest

from car_damage.errors import Transient, Unavailable
from car_damage.pipeline import EndpointRequest
from car_damage.stage import silent
from car_damage.stages.endpoint import work
from tests.fakes import World
from tests.unit.test_endpoint_stage import world

PORTS = ("registry", "history", "serving", "tracking")
METHODS = frozenset(
    ["champion", "challenger", "get", "move", "tag", "begin", "close", "moves", "state", "put", "query", "build_log", "fetch"]
)


class Faulty:
    """Records the calls of all ports, and makes one of them fail once."""

    def __init__(self, at: int | None, when: str) -> None:
        self.calls: list[str] = []
        self._at, self._when = at, when

    def watch(self, here: World) -> World:
        for name in PORTS:
            port = getattr(here, name)
            for method in sorted(name for name in METHODS if callable(getattr(port, name, None))):
                setattr(port, method, partial(self._call, f"{name}.{method}", getattr(port, method)))
        return here

    def _call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number = len(self.calls)
        self.calls.append(name)
        if number == self._at and self._when == "before":
            raise Unavailable("a fault")
        answer = method(*args, **kwargs)
        if number == self._at:
            raise Unavailable("the answer was lost")
        return answer


RETRAIN = EndpointRequest("flow", "retrain")
ROLLBACK = EndpointRequest("flow", "promote, by anna", 1, 2, "rollback", "wrong answers")
STORIES = {
    "a challenger goes live": (world, RETRAIN),
    "a champion is put back": (lambda: world(served=2, challenger=None), RETRAIN),
    "a person goes back": (lambda: world(served=2, champion=2, challenger=None), ROLLBACK),
}


def ended(story: str, at: int | None = None, when: str = "before") -> tuple[dict[str, Any], list[str]]:
    """The world and the report at the end, after retries like a task's; and the calls of all attempts."""
    make, request = STORIES[story]
    faulty = Faulty(at, when)
    here: Any = faulty.watch(make())
    calls: list[str] = []
    for _ in range(3):
        try:
            report = work(request, here, silent)
            break
        except Transient:
            calls = calls or list(faulty.calls)
    else:
        raise AssertionError(f"{story}: one fault, and three attempts were not enough")
    # If the first attempt has put the champion back, the second finds that it is served.
    outcome = "repaired" if report.outcome == "unchanged" else report.outcome
    told = asdict(replace(report, outcome=outcome, message="", latency=None))
    return {"aliases": here.registry.aliases, "history": here.history.told, "served": here.serving.served, **told}, faulty.calls


@pytest.mark.parametrize("story", STORIES)
def test_one_fault_at_any_call_before_or_after_its_effect_changes_nothing_about_the_end(story: str) -> None:
    undisturbed, calls = ended(story)
    assert len(calls) > 5
    differences = [
        f"{when} {call} ({number}): {after} and not {undisturbed}"
        for number, call in enumerate(calls)
        for when in ("before", "after")
        if (after := ended(story, number, when)[0]) != undisturbed
    ]
    assert not differences, "\n".join(differences)
