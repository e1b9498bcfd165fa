"""Each invariant says nothing about honest nights, and notices its own breach."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from car_damage.data.people.reviews import Word
from car_damage.errors import LandingLost, UnexpectedError
from car_damage.pipeline import Comparison
from tests.nights import invariants
from tests.nights.habits import quiet_day
from tests.nights.invariants import INVARIANTS, Invariant
from tests.nights.record import Past, Record
from tests.nights.simulation import Simulation

OTHER = {"train": "test", "validation": "train", "test": "validation"}
Corrupt = Callable[[Record], Record]


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A first model goes live, and then nothing happens."""
    records = list(Simulation(tmp_path_factory.mktemp("two"), live=90, habits=[quiet_day]).nights(2))
    assert [record.night.ending for record in records] == ["Promoted", "Nothing new"]
    return records


def ended(ending: str, **others: Any) -> Corrupt:
    return lambda record: replace(record, night=replace(record.night, ending=ending, **others))


def silver(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Corrupt:
    """The first row of silver is another one."""
    return lambda record: replace(record, silver=[record.silver[0] | change(record.silver[0]), *record.silver[1:]])


def without_a_class(record: Record) -> Record:
    networks = {number: replace(network, learnt={"car 1": "major"}) for number, network in record.networks.items()}
    return replace(record, networks=networks, before={**record.before, "aliases": {}})


def kept(record: Record) -> Record:
    """In place of a champion that is always wrong, the version does not go live."""
    report = record.night.done["register"]
    classes = len(report.evidence.candidate.confusion)
    photos = [sum(row) for row in report.evidence.candidate.confusion]
    wrong = [[photos[row] if column == (row + 1) % classes else 0 for column in range(classes)] for row in range(classes)]
    champion = replace(report.evidence.candidate, confusion=wrong, cost=9.0)
    evidence = replace(report.evidence, champion=champion, comparison=Comparison(0.9, 0.9999, (0.8, 1.0)))
    report = replace(report, decision="keep", reasons=("worse",), evidence=evidence)
    return replace(record, night=replace(record.night, done={**record.night.done, "register": report}))


def another_champion(record: Record) -> Record:
    return replace(record, after={**record.after, "aliases": {"champion": 99}})


BREACHES: dict[Invariant, tuple[int, Corrupt]] = {
    invariants.each_listed_file_has_one_present_row: (0, lambda record: replace(record, bronze=record.bronze[1:])),
    invariants.no_row_of_bronze_is_lost: (1, lambda record: replace(record, bronze=record.bronze[1:])),
    invariants.each_valid_content_is_in_silver_once: (0, lambda record: replace(record, silver=record.silver[1:])),
    invariants.a_content_keeps_its_split: (1, silver(lambda row: {"split": OTHER[row["split"]]})),
    invariants.what_resembles_a_content_of_any_night_has_its_split: (
        1,
        silver(lambda row: {"split": OTHER[row["split"]], "sha256": "saved again", "phash": row["phash"] ^ 0b1111}),
    ),
    invariants.what_looks_alike_tonight_is_in_one_split: (
        0,
        lambda record: replace(record, silver=[*record.silver, record.silver[0] | {"split": OTHER[record.silver[0]["split"]]}]),
    ),
    invariants.no_photo_that_was_trained_on_takes_part_in_a_decision: (
        0,
        lambda record: replace(record, trained=frozenset(row["sha256"] for row in record.silver)),
    ),
    invariants.labels_follow_the_settings: (0, silver(lambda row: {"label": {"minor": "major"}.get(row["label"], "minor")})),
    invariants.the_last_word_of_a_person_counts: (
        0,
        lambda record: replace(record, words=(Word(record.silver[0]["sha256"], "cannot_tell", "Ann", datetime(2026, 6, 1, tzinfo=UTC)),)),
    ),
    invariants.each_word_is_kept_once: (
        0,
        lambda record: replace(
            record, reviews=[{"sha256": "0" * 64, "label": "minor", "by": "Ann", "said": datetime(2026, 6, 1, tzinfo=UTC)}]
        ),
    ),
    invariants.verdicts_follow_the_limits: (
        0,
        lambda record: replace(record, settings=record.settings.model_copy(update={"images": type(record.settings.images)(min_side=60)})),
    ),
    invariants.no_model_goes_live_that_lacks_a_class: (0, without_a_class),
    invariants.a_champion_is_kept_for_a_reason: (0, kept),
    invariants.nothing_new_is_said_only_when_it_is_so: (1, another_champion),
    invariants.a_stopped_night_writes_nothing: (0, ended("Failed", error=LandingLost("all photos have vanished"))),
    invariants.a_killed_night_and_a_normal_one_are_a_normal_one: (
        0,
        lambda record: replace(record, normal={"served": 1}, ended={"served": 2}),
    ),
    invariants.the_endpoint_serves_the_champion: (0, another_champion),
    invariants.advice_helps: (1, lambda record: ended("Failed")(replace(record, follows=ended("Failed")(record)))),
    invariants.no_error_is_unforeseen: (0, ended("Failed", error=UnexpectedError("KeyError"))),
    invariants.tables_stay_small: (0, lambda record: replace(record, disk=10 * invariants.LOG_OF_TABLES)),
}


def breaches(invariant: Invariant, nights: list[Record], number: int, corrupt: Corrupt = lambda record: record) -> list[str]:
    past = Past()
    for record in nights[:number]:
        past.remember(record)
    return list(invariant(past, corrupt(nights[number])))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda one: one.__name__)
def test_an_honest_night_breaks_nothing(two_nights: list[Record], invariant: Invariant, number: int) -> None:
    assert breaches(invariant, two_nights, number) == []


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda one: one.__name__)
def test_a_breach_is_noticed(two_nights: list[Record], invariant: Invariant) -> None:
    number, corrupt = BREACHES[invariant]
    assert breaches(invariant, two_nights, number, corrupt)
