"""How certain a difference between two models is: exact where the answer is known, and cheap for many photos."""

import itertools
import tracemalloc

import numpy as np
import pytest

from car_damage.model.quality.evaluation import macro_f1, macro_f1_of, mean_recall_of
from car_damage.model.quality.paired import cells_of, intervals
from car_damage.promotion.certainty import confidence

TRUTH = np.arange(60) % 3


def said(right: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (TRUTH + (random.random(len(TRUTH)) >= right) * random.integers(1, 3, len(TRUTH))) % 3


def by_hand(candidate: np.ndarray, champion: np.ndarray) -> float:
    """1 less the share of all exchanges of answers that gain as much, photo by photo."""
    gain = macro_f1(TRUTH, candidate, 3) - macro_f1(TRUTH, champion, 3)
    differ = np.flatnonzero(candidate != champion)
    as_much = 0
    for exchanged in itertools.product([False, True], repeat=len(differ)):
        mine, theirs = candidate.copy(), champion.copy()
        rows = differ[list(exchanged)]
        mine[rows], theirs[rows] = champion[rows], candidate[rows]
        as_much += macro_f1(TRUTH, mine, 3) - macro_f1(TRUTH, theirs, 3) >= gain - 1e-9
    return 1 - as_much / 2 ** len(differ)


def test_the_confidence_is_that_of_all_exchanges_of_answers() -> None:
    champion = said(0.8, seed=1)
    candidate = champion.copy()
    mended, spoiled = np.flatnonzero(champion != TRUTH)[:6], np.flatnonzero(champion == TRUTH)[[3, 10, 20]]
    candidate[mended] = TRUTH[mended]
    candidate[spoiled] = (TRUTH[spoiled] + 2) % 3
    exact = by_hand(candidate, champion)
    assert 0.5 < exact < 0.99
    assert confidence(cells_of(TRUTH, candidate, champion, 3), macro_f1_of, 40_000, 0) == pytest.approx(exact, abs=0.02)


def test_six_mended_photos_and_none_spoiled_are_no_more_than_six_heads_in_a_row() -> None:
    champion = TRUTH.copy()
    champion[:6] = (TRUTH[:6] + 1) % 3
    assert confidence(cells_of(TRUTH, TRUTH, champion, 3), macro_f1_of, 50_000, 0) == pytest.approx(1 - 1 / 64, abs=0.003)


def test_two_equal_models_leave_no_confidence() -> None:
    assert confidence(cells_of(TRUTH, TRUTH, TRUTH, 3), macro_f1_of, 1_000, 0) == 0.0


def test_a_chance_is_never_nothing() -> None:
    cells = cells_of(TRUTH, TRUTH, (TRUTH + 1) % 3, 3)
    assert confidence(cells, macro_f1_of, 1_000, 0) == pytest.approx(1 - 1 / 1_001)


def test_equally_good_models_reach_a_confidence_as_seldom_as_it_says() -> None:
    """95 % on 60 photos: in 1,000 pairs about fifty, with a standard deviation of seven."""
    pairs = [cells_of(TRUTH, said(0.75, seed), said(0.75, 10_000 + seed), 3) for seed in range(1_000)]
    assert 25 <= sum(confidence(cells, macro_f1_of, 1_000, 0) >= 0.95 for cells in pairs) <= 72


def test_the_measure_is_the_caller_s() -> None:
    """Always saying minor, and guessing: the second has the higher macro-F1, but no more recalls."""
    constant, guesses = np.zeros_like(TRUTH), np.random.default_rng(3).permutation(TRUTH)
    cells = cells_of(TRUTH, guesses, constant, 3)
    assert confidence(cells, macro_f1_of, 2_000, 0) > 0.95 > confidence(cells, mean_recall_of, 2_000, 0)


def test_an_interval_is_that_of_resampled_photos() -> None:
    candidate, champion = said(0.85, 1), said(0.7, 2)
    random = np.random.default_rng(0)
    rows = [random.integers(0, 60, 60) for _ in range(4_000)]
    mine = [macro_f1(TRUTH[drawn], candidate[drawn], 3) for drawn in rows]
    gains = [score - macro_f1(TRUTH[drawn], champion[drawn], 3) for score, drawn in zip(mine, rows, strict=True)]
    found = intervals(cells_of(TRUTH, candidate, champion, 3), macro_f1_of, 0)
    assert found.candidate == pytest.approx(np.quantile(mine, [0.025, 0.975]), abs=0.02)
    assert found.gain == pytest.approx(np.quantile(gains, [0.025, 0.975]), abs=0.02)


def test_a_hundred_and_fifty_thousand_photos_take_no_memory_worth_mentioning() -> None:
    """Resamples of the photos themselves would hold 2,000 x 150,000 numbers."""
    truth = np.arange(150_000) % 3
    cells = cells_of(truth, (truth + (np.arange(150_000) % 7 == 0)) % 3, (truth + (np.arange(150_000) % 6 == 0)) % 3, 3)
    tracemalloc.start()
    try:
        confidence(cells, macro_f1_of, 50_000, 0)
        intervals(cells, macro_f1_of, 0)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
