"""Intervals of scores: they contain the true score as often as they say."""

import numpy as np
import pytest

from car_damage.model.quality.bootstrap import RESAMPLES, interval, interval_of_mean, resampled
from car_damage.model.quality.evaluation import confusion_matrix, counts_of, macro_f1, macro_f1_of

TRUE = np.array([[0.30, 0.06, 0.04], [0.05, 0.20, 0.05], [0.02, 0.06, 0.22]])
"""Shares of all photos, by truth and answer."""
SETS, PHOTOS = 600, 200


def true_macro_f1() -> float:
    return float(np.mean(2 * np.diag(TRUE) / (TRUE.sum(axis=0) + TRUE.sum(axis=1))))


def test_ninety_five_of_a_hundred_intervals_contain_the_true_score() -> None:
    """As many of 600 sets as three standard deviations of a binomial distribution allow; with these seeds always the same number."""
    random = np.random.default_rng(0)
    accuracy = macro = loss = 0
    for _ in range(SETS):
        drawn = resampled(random.multinomial(PHOTOS, TRUE.ravel()).reshape(3, 3), 0)
        low, high = interval(drawn.trace(axis1=1, axis2=2) / PHOTOS)
        accuracy += low <= np.trace(TRUE) <= high
        low, high = interval(macro_f1_of(counts_of(drawn)))
        macro += low <= true_macro_f1() <= high
    for _ in range(SETS // 6):
        low, high = interval_of_mean(random.exponential(size=PHOTOS), 0)
        loss += low <= 1.0 <= high
    error = 3 * np.sqrt(0.95 * 0.05 * SETS)
    assert 0.95 * SETS - error <= accuracy <= 0.95 * SETS + error
    assert 0.95 * SETS - error <= macro <= 0.95 * SETS + error
    assert loss >= 0.95 * SETS / 6 - error / np.sqrt(6)


def test_draws_of_counts_are_draws_of_photos() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, 80)
    said = np.where(random.random(80) < 0.7, truth, random.integers(0, 3, 80))
    of_counts = macro_f1_of(counts_of(resampled(confusion_matrix(truth, said, 3), 0)))
    rows = [random.integers(0, 80, 80) for _ in range(2_000)]
    of_photos = np.array([macro_f1(truth[drawn], said[drawn], 3) for drawn in rows])
    assert of_counts.shape == (RESAMPLES,)
    assert interval(of_counts) == pytest.approx(interval(of_photos), abs=0.02)


def test_the_same_seed_gives_the_same_interval_and_a_model_without_mistakes_a_single_point() -> None:
    counts = np.array([[5, 1], [2, 7]])
    assert np.array_equal(resampled(counts, 3), resampled(counts, 3))
    assert resampled(counts, 3).sum(axis=(1, 2)).tolist() == [15] * RESAMPLES
    assert interval(macro_f1_of(counts_of(resampled(np.diag([4, 4]), 0)))) == (1.0, 1.0)
