"""The stage live: when nothing is left to do."""

from typing import Any

import pytest

from car_damage.moves import DONE, PROMOTION, ROLLBACK, Intention
from car_damage.pipeline import LiveRequest
from car_damage.ports import TrainedRun
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.live import work
from tests.fakes import Endpoint, Photos, Runs, Versions, World


class FinishedRuns(Runs):
    """The run of version 1 has the key that is asked for."""

    def run_for(self, training_key: str, packages: dict[str, str]) -> TrainedRun:
        del training_key, packages
        return TrainedRun("run-1", "models:/m-1", {})


class FallbackRuns(Runs):
    """The run of version 1 has the key of a cnn, with which a training of the network auto ended."""

    def run_for(self, training_key: str, packages: dict[str, str]) -> TrainedRun | None:
        del packages
        return TrainedRun("run-1", "models:/m-1", {}) if training_key == "as cnn" else None


def world(champion: int, kind: str, *, by_person: bool) -> Any:
    """Version 1 was decided against version 0. Since then the champion went live."""
    registry = Versions()
    registry.add(1, decision="keep", judged_against="0")
    registry.add(2, decision="promote", judged_against="0")
    registry.aliases["champion"] = champion
    here = World(Settings(), Photos({}), registry, Endpoint({}, served=champion), FinishedRuns({}))
    here.history.close(here.history.begin(Intention(kind, champion, 0, "why", "who", "flow", by_person=by_person)), DONE)
    return here


@pytest.mark.parametrize(
    ("champion", "kind", "by_person", "settled"),
    [
        (2, PROMOTION, False, False),
        (2, PROMOTION, True, True),
        (2, ROLLBACK, True, True),
        (1, PROMOTION, False, True),
    ],
)
def test_a_decision_holds_while_its_champion_is_live_or_a_person_chose_another(
    champion: int, kind: str, by_person: bool, settled: bool
) -> None:
    assert work(LiveRequest("key"), world(champion, kind, by_person=by_person), silent).settled is settled


def test_a_choice_of_a_person_counts_until_the_rule_chooses_again() -> None:
    here = world(2, PROMOTION, by_person=True)
    here.registry.add(3, decision="promote", judged_against="2")
    here.registry.aliases["champion"] = here.serving.served = 3
    here.history.close(here.history.begin(Intention(PROMOTION, 3, 2, "why", "who", "flow")), DONE)
    assert not work(LiveRequest("key"), here, silent).settled


def test_a_training_of_the_network_auto_that_ended_as_cnn_counts_until_photos_change() -> None:
    here = world(2, PROMOTION, by_person=True)
    here.tracking = FallbackRuns({})
    assert work(LiveRequest("as transfer", fallback_key="as cnn"), here, silent).settled
    assert not work(LiveRequest("as transfer", fallback_key="of other photos"), here, silent).settled
