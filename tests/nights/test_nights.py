"""Sixty nights of a landing folder with people around it: what must be true after every night is true.

The habits of people and the invariants are in `habits` and `invariants`. `make bench-nights` simulates a thousand nights.
"""

from collections import Counter
from dataclasses import dataclass

import pytest

from tests.nights.habits import HABITS
from tests.nights.invariants import INVARIANTS, Invariant
from tests.nights.simulation import Breach, Simulation

NIGHTS = 60
SEED = 2
"""The first seed whose nights see every ending more than once: a night on which nothing is new is rare."""


@dataclass(frozen=True)
class Nights:
    """What sixty nights left."""

    breaches: list[Breach]
    endings: Counter[str]
    lived: set[str]
    """The habits that people had."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    simulation = Simulation(tmp_path_factory.mktemp("nights"), SEED)
    runs = list(simulation.nights(NIGHTS))
    return Nights(simulation.breaches, Counter(run.night.ending for run in runs), {run.habit for run in runs})


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda one: one.__name__)
def test_in_sixty_nights(nights: Nights, invariant: Invariant) -> None:
    assert [breach for breach in nights.breaches if breach.invariant == invariant.__name__] == []


def test_sixty_nights_have_seen_every_habit(nights: Nights) -> None:
    assert {habit.__name__ for habit in HABITS} == nights.lived


@pytest.mark.parametrize("ending", ["Promoted", "Kept the champion", "Nothing new", "Failed"])
def test_sixty_nights_have_seen_every_ending(nights: Nights, ending: str) -> None:
    assert nights.endings[ending] >= 2
