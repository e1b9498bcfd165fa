"""How certain a difference between two models is.

Both models answer the same photos, so only the counts of photos with equal (truth, candidate's answer, champion's answer) matter. All that
follows works on these counts: its cost does not depend on the number of photos.
"""

import numpy as np

from car_damage.model.quality.evaluation import Counts, counts_of
from car_damage.model.quality.paired import Cells, Measure

ROUNDING = 1e-9
"""Largest difference between two sums of the same numbers."""
_BLOCK = 2_000
"""Resamples that are held in memory together."""
_ENOUGH = 200
"""Resamples that gain as much, after which the chance is known to 7 % of itself."""


def confidence(cells: Cells, measure: Measure, resamples: int, seed: int) -> float:
    """1 less the chance that a candidate that is no better than the champion gains as much as this one on these photos.

    If it is no better, then on each photo where the two differ either answer may as well be the other's. So the answers of a random half
    of those photos are exchanged, many times. This test is exact for any number of photos and any score (Fisher 1935, section 21; for F1,
    Yeh 2000). The bootstrap is not: a candidate that corrects six photos and spoils none is ahead in 99.8 % of its resamples, and a coin
    does as well one time in 64. The chance is never 0 (Phipson & Smyth 2010), and the larger it is, the fewer resamples show it
    (Besag & Clifford 1991).
    """
    random = np.random.default_rng(seed)
    gain = _score(cells, measure) - _score(cells.transpose(0, 2, 1), measure)
    done = as_much = 0
    while done < resamples and as_much < _ENOUGH:
        block = min(_BLOCK, resamples - done)
        as_much += _as_much(cells, measure, gain, block, random)
        done += block
    return 1 - (1 + as_much) / (1 + done)


def _score(cells: Cells, measure: Measure) -> float:
    return float(measure(counts_of(cells.sum(axis=2))))


def _as_much(cells: Cells, measure: Measure, gain: float, resamples: int, random: np.random.Generator) -> int:
    """In how many of these resamples the exchanged answers gain as much."""
    alike = np.diagonal(cells, axis1=1, axis2=2)  # (truth, answer): both models say the same
    support = cells.sum(axis=(1, 2))
    hits = np.tile(np.diag(alike), (resamples, 1))
    predicted = np.tile(alike.sum(axis=0), (resamples, 1))
    both = cells + cells.transpose(0, 2, 1)
    for truth, one, other in zip(*np.nonzero(both), strict=True):
        if one >= other:
            continue
        photos = both[truth, one, other]
        ones = random.binomial(photos, 0.5, resamples)
        predicted[:, one] += ones
        predicted[:, other] += photos - ones
        if truth == one:
            hits[:, truth] += ones
        elif truth == other:
            hits[:, truth] += photos - ones
    # What one model does not get of the photos where they differ, the other gets.
    of_both = both.sum(axis=2)
    others = Counts(np.diag(of_both) - hits, support, of_both.sum(axis=0) - predicted)
    gains = measure(Counts(hits, support, predicted)) - measure(others)
    return int(np.count_nonzero(gains >= gain - ROUNDING))
