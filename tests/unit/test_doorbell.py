"""When new photos start a run, and when they do not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from car_damage.data.doorbell import EMPTY, Memory, Runs, Signal, decide, fingerprint
from car_damage.data.people.reviews import Word, say
from car_damage.data.photos.ledger import landing_fingerprint, listing
from car_damage.platform import Target
from car_damage.settings import Landing, Settings

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
AFTER = timedelta(minutes=5)


def asked(found: str, memory: Memory, validated: str = "old", runs: Runs = Runs(), now: datetime = NOW) -> Signal:  # noqa: B008 - frozen
    return decide(found, validated, memory, runs, now=now, repeat_after=AFTER)


def test_the_first_look_only_remembers() -> None:
    assert asked("new", Memory()) == Signal(
        False, "The landing folder has changed since the previous look: photos may still be arriving.", Memory("new")
    )


def test_two_equal_looks_ring() -> None:
    rung = asked("new", Memory("new"))
    assert (rung.ring, rung.memory) == (True, Memory("new", "new", NOW))


def test_a_folder_that_keeps_changing_does_not_ring() -> None:
    memory = Memory()
    for number in range(5):
        looked = asked(f"state {number}", memory)
        assert not looked.ring
        memory = looked.memory


def test_what_was_validated_does_not_ring() -> None:
    assert not asked("old", Memory("old")).ring


def test_it_is_silent_while_a_run_is_due_and_rings_once_that_has_missed_the_photos() -> None:
    due = asked("new", Memory("new"), runs=Runs(due=True))
    assert (due.ring, due.memory) == (False, Memory("new"))
    assert asked("new", due.memory).ring


def test_a_ring_is_not_repeated_while_its_run_may_still_come() -> None:
    assert not asked("new", Memory("new", "new", NOW), now=NOW + AFTER - timedelta(seconds=1)).ring


def test_a_ring_that_no_run_answered_is_repeated_and_again_after_that() -> None:
    later = NOW + AFTER
    again = asked("new", Memory("new", "new", NOW), now=later)
    assert (again.ring, again.memory.rung_at) == (True, later)
    assert not asked("new", again.memory, now=later).ring


def test_photos_for_which_a_run_came_and_failed_do_not_ring_for_ever() -> None:
    assert not asked("new", Memory("new", "new", NOW), runs=Runs(came=True), now=NOW + timedelta(days=7)).ring


def test_other_photos_ring_although_a_run_came_for_the_last_ones() -> None:
    assert asked("newer", Memory("newer", "new", NOW), runs=Runs(came=True)).ring


@pytest.mark.parametrize(("validated", "rings"), [("", False), ("old", True)])
def test_an_empty_folder_rings_only_where_there_were_photos(validated: str, rings: bool) -> None:
    assert asked(EMPTY, Memory(EMPTY), validated).ring is rings


def test_the_doorbell_names_a_folder_as_validation_does(tmp_path: Path) -> None:
    (tmp_path / "minor").mkdir()
    (tmp_path / "minor" / "a.jpg").write_bytes(b"a")
    (tmp_path / "minor" / b"b\xff.jpg".decode("utf-8", "surrogateescape")).write_bytes(b"bb")
    (tmp_path / "_ignored.jpg").write_bytes(b"c")
    target = Target(Settings(home=tmp_path / "home", landing=Landing(folder=str(tmp_path / "minor"))))
    found = fingerprint(target)
    assert found == target.tables.compare_landing(target.settings.landing.folder, target.settings.tables.bronze, "").fingerprint
    (tmp_path / "minor" / "c.jpg").write_bytes(b"")
    assert fingerprint(target) != found


def test_a_word_rings_as_validation_will_hear_it(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    target = Target(Settings(home=tmp_path))
    settings = target.settings
    before = fingerprint(target)
    assert before == EMPTY
    word = Word("0" * 64, "major", "Ann", NOW)
    say(target.files, settings.answers.corrections, word, "abc", photo=b"photo", suffix=".jpg")
    rings = fingerprint(target)
    landed = target.tables.compare_landing(settings.landing.folder, settings.tables.bronze, "", settings.answers.corrections)
    assert rings == landed.fingerprint != before
    say(target.files, settings.answers.corrections, word, "abd")
    assert fingerprint(target) != rings


def test_an_empty_folder_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    target = Target(Settings(home=tmp_path / ".home", landing=Landing(folder=str(tmp_path))))
    assert fingerprint(target) == EMPTY
    assert landing_fingerprint(str(tmp_path), listing([])) == EMPTY
