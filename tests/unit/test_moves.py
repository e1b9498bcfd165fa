"""Which version a rollback returns to, given a history."""

from datetime import UTC, datetime, timedelta

import pytest

from car_damage.moves import (
    ABANDONED,
    DONE,
    FAILED,
    PROMOTION,
    ROLLBACK,
    UNDERWAY,
    Intention,
    Move,
    line_of_champions,
    previous,
    rollback_of,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def history(*moves: tuple[int | None, int] | tuple[int | None, int, str]) -> list[Move]:
    """Moves (from, to), newest first, as the registry returns them. A third element is the state."""
    told = []
    for number, (replaces, version, *state) in enumerate(moves):
        kind = ROLLBACK if replaces is not None and version < replaces else PROMOTION
        at = START + timedelta(hours=number)
        told.append(Move(f"run-{number}", Intention(kind, version, replaces, "why", "who", "flow"), at, at, state[0] if state else DONE))
    return told[::-1]


@pytest.mark.parametrize(
    ("moves", "champion", "wanted"),
    [
        ([], None, None),
        ([], 3, None),
        ([(None, 1)], 1, None),
        ([(None, 1), (1, 2)], 2, 1),
        ([(None, 1), (1, 2), (2, 4)], 4, 2),
    ],
)
def test_the_previous_version_is_the_champion_before_the_present_one(
    moves: list[tuple[int | None, int]], champion: int | None, wanted: int | None
) -> None:
    assert previous(history(*moves), champion) == wanted


def test_a_version_that_was_rolled_back_from_is_never_the_previous_one() -> None:
    back = [(None, 1), (1, 2), (2, 3), (3, 2)]
    assert previous(history(*back), 2) == 1
    assert previous(history(*back, (2, 4)), 4) == 2
    assert previous(history(*back, (2, 4), (4, 2), (2, 1)), 1) is None


def test_a_rollback_over_several_versions_leaves_none_of_them_in_the_line() -> None:
    moves = history((None, 1), (1, 2), (2, 3), (3, 1), (1, 5))
    assert line_of_champions(moves, 5) == [1, 5]


def test_a_version_that_is_promoted_once_more_after_a_rollback_is_in_the_line_again() -> None:
    assert previous(history((None, 1), (1, 2), (2, 1), (1, 2), (2, 3)), 3) == 2


@pytest.mark.parametrize("state", [FAILED, ABANDONED, UNDERWAY])
def test_a_move_that_was_not_done_counts_for_nothing(state: str) -> None:
    assert previous(history((None, 1), (1, 2), (2, 3, state)), 2) == 1


def test_an_alias_that_was_moved_by_hand_is_believed() -> None:
    moves = history((None, 1), (1, 2), (2, 3))
    assert previous(moves, 2) == 1
    assert previous(moves, 9) == 3
    assert line_of_champions(history((None, 1), (1, 2), (7, 8)), 8) == [1, 2, 7, 8]


def test_without_a_champion_there_is_nothing_to_go_back_from() -> None:
    assert previous(history((None, 1), (1, 2)), None) is None


def test_a_version_was_taken_back_until_it_goes_live_once_more() -> None:
    back = [(None, 1), (1, 2), (2, 1)]
    found = rollback_of(history(*back), 2)
    assert found is not None
    assert found.intention.replaces == 2
    assert rollback_of(history(*back), 1) is None
    assert rollback_of(history(*back, (1, 2)), 2) is None
    assert rollback_of(history(*back, (1, 3)), 2) is not None
    assert rollback_of(history((None, 1), (1, 2, FAILED)), 2) is None
