"""Which version a person's request selects, and which versions must not go live."""

from dataclasses import replace
from typing import Literal

import pytest

from car_damage.errors import PromotionRefused
from car_damage.moves import DONE, PROMOTION, ROLLBACK, Intention
from car_damage.pipeline import ChooseReport, ChooseRequest
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.choose import work
from tests.fakes import Endpoint, Photos, Runs, Versions, World


def world(champion: int | None, *moves: tuple[int | None, int, str]) -> World:
    """A registry with versions 1 to 5, and a champion with a history."""
    registry = Versions()
    for version in range(1, 6):
        registry.add(version, decision="promote", judged_against="none")
    if champion is not None:
        registry.aliases["champion"] = champion
    here = World(Settings(), Photos({}), registry, Endpoint({}), Runs({}))
    for replaces, version, kind in moves:
        here.history.close(here.history.begin(Intention(kind, version, replaces, "why", "who", "flow")), DONE)
    return here


def choose(here: World, version: int | Literal["previous"]) -> ChooseReport:
    return work(ChooseRequest(version), here, silent)  # type: ignore[arg-type]


LIVE = [(None, 1, PROMOTION), (1, 2, PROMOTION), (2, 3, PROMOTION)]


def test_previous_is_the_champion_before_the_present_one() -> None:
    assert choose(world(3, *LIVE), "previous") == ChooseReport(2, 3, ROLLBACK)


def test_previous_is_never_a_version_that_was_rolled_back_from() -> None:
    assert choose(world(2, *LIVE, (3, 2, ROLLBACK)), "previous").version == 1


def test_without_a_champion_before_there_is_no_previous_one() -> None:
    with pytest.raises(PromotionRefused, match="the history has no version that was live before version 1"):
        choose(world(1, LIVE[0]), "previous")
    with pytest.raises(PromotionRefused, match="no version is live"):
        choose(world(None), "previous")


def test_an_older_champion_is_a_rollback_and_one_that_was_rolled_back_from_a_promotion() -> None:
    assert choose(world(3, *LIVE), 1) == ChooseReport(1, 3, ROLLBACK)
    assert choose(world(2, *LIVE, (3, 2, ROLLBACK)), 3) == ChooseReport(3, 2, PROMOTION)


def test_the_champion_itself_may_be_asked_for() -> None:
    assert choose(world(3, *LIVE), 3) == ChooseReport(3, 3, PROMOTION)


@pytest.mark.parametrize("decision", ["await_approval", "promote"])
def test_a_version_that_was_never_live_goes_live_on_evidence_about_the_present_champion(decision: str) -> None:
    here = world(3, *LIVE)
    here.registry.versions[4] = replace(here.registry.versions[4], tags={"decision": decision, "judged_against": "3"})
    assert choose(here, 4) == ChooseReport(4, 3, PROMOTION)


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        (
            {"decision": "await_approval", "judged_against": "2"},
            r"judged against champion 2, but the champion is 3; run retrain with judge_again",
        ),
        (
            {"decision": "keep", "judged_against": "3", "decision_reasons": "too small a gain"},
            "was judged, and the decision is against it: too small a gain",
        ),
        ({"decision": "deciding", "judged_against": "3"}, "has not been judged"),
        ({}, "has not been judged"),
    ],
)
def test_a_version_without_such_evidence_is_refused_with_the_reason(tags: dict[str, str], says: str) -> None:
    here = world(3, *LIVE)
    here.registry.versions[4] = replace(here.registry.versions[4], tags=tags)
    with pytest.raises(PromotionRefused, match=says):
        choose(here, 4)


def test_a_version_that_is_not_there_is_refused() -> None:
    with pytest.raises(PromotionRefused, match="there is no version 99"):
        choose(world(3, *LIVE), 99)


def test_looking_changes_nothing() -> None:
    here = world(3, *LIVE)
    before = list(here.history.told)
    choose(here, "previous")
    assert (here.history.told, here.registry.moves) == (before, [])
