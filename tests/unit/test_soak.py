"""The checks of `make bench-soak` notice a leak and each kind of loss."""

import os
import random
import subprocess
import sys
from collections import Counter
from itertools import accumulate

import pytest

from benchmarks.soak_checks import Course, forgotten, landed, requests, swaps, usage, words

ROUNDS = 20
PRESENT = {"path": "/landing/a.jpg", "status": "valid"}
WORD = ("a" * 64, "minor", "Ann")


def noise(number: int) -> float:
    return random.Random(number).choice((-2, -1, 0, 0, 1, 2))  # noqa: S311 - not a secret


@pytest.mark.parametrize("what", ["threads", "open files", "child processes", "files in the temporary folder"])
def test_one_more_in_every_third_round_is_a_leak(what: str) -> None:
    assert Course("process", what, [10 + number // 3 + noise(number) for number in range(ROUNDS)]).leaks


@pytest.mark.parametrize("what", ["threads", "open files", "child processes", "files in the temporary folder"])
def test_as_many_more_and_less_are_none(what: str) -> None:
    assert not Course("process", what, [10 + noise(number) for number in range(ROUNDS)]).leaks


def test_memory_that_grows_in_each_round_is_a_leak() -> None:
    assert Course("process", "memory, MB", [500 + 5 * number + noise(number) for number in range(ROUNDS)]).leaks


def test_memory_that_settles_after_the_first_rounds_is_none() -> None:
    assert not Course("process", "memory, MB", list(accumulate(100 / 2**number for number in range(ROUNDS)))).leaks


def test_what_a_process_has_started_counts_unless_it_is_asked_for_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        alone, together = usage(os.getpid(), alone=True), usage(os.getpid())
        child.communicate(b"\n")
    assert together["child processes"] == alone["child processes"] >= 1
    for what in ("memory, MB", "threads", "open files"):
        assert together[what] > alone[what]


@pytest.mark.parametrize(("live", "wrong"), [([1, 2, 1, 3], 0), ([1, 2, 2, 3], 1), ([1], 3)])
def test_a_round_without_a_swap_is_noticed(live: list[int], wrong: int) -> None:
    assert len(swaps(live, 3).wrong) == wrong


def test_every_answered_request_has_one_row() -> None:
    asked = Counter(a=2, b=1)
    assert requests(asked, {"a"}, ["a", "a", "b", None]).wrong == []


@pytest.mark.parametrize("rows", [["a", "b"], ["a", "a"], ["a", "a", "a", "b"]])
def test_a_request_without_a_row_or_with_two_is_noticed(rows: list[str | None]) -> None:
    assert len(requests(Counter(a=2, b=1), {"a"}, rows).wrong) == 1


def test_a_photo_of_which_others_ask_too_may_have_more_rows() -> None:
    assert requests(Counter(b=1), {"a"}, ["b", "b"]).wrong == []


@pytest.mark.parametrize("rows", [[], [PRESENT | {"status": "vanished"}], [PRESENT, PRESENT]])
def test_a_landed_photo_without_one_present_row_is_noticed(rows: list[dict[str, str]]) -> None:
    assert landed([PRESENT["path"]], [PRESENT]).wrong == []
    assert landed([PRESENT["path"]], rows).wrong == [PRESENT["path"]]


def test_a_word_without_a_row_is_noticed() -> None:
    row = dict(zip(("sha256", "label", "by"), WORD, strict=True))
    assert words([WORD], [row]).wrong == []
    assert len(words([WORD, WORD], [row]).wrong) == 1


def test_a_row_with_a_forgotten_photo_is_noticed() -> None:
    assert forgotten(["a"], {"silver": ["b", None]}).wrong == []
    assert forgotten(["a"], {"silver": ["b", None], "bronze": ["a"]}).wrong == ["a in bronze"]
