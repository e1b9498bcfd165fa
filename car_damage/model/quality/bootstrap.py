"""Intervals by the percentile bootstrap (Efron & Tibshirani 1993, ch. 13): how far a score may be from that on all photos of this kind.

n photos are drawn with replacement from the n photos, many times. The interval ends at the 2.5 and 97.5 percent quantiles of the scores of
these draws. Scores that only need a confusion matrix are drawn as matrices: to draw photos is to draw the numbers in its cells from a
multinomial distribution. The same seed gives the same interval.
"""

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
"""Both ends of a 95 % interval."""

RESAMPLES = 1_000
"""As many as Efron & Tibshirani (1993, ch. 13) ask for."""
_NUMBERS = 1 << 18
"""Numbers that are held in memory together, unless there are more photos."""


def resampled(counts: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Draws of photos that are counted in cells: (RESAMPLES, *shape of the counts), each with as many photos. There must be a photo."""
    cells = counts.ravel()
    used = np.flatnonzero(cells)
    drawn = np.zeros((RESAMPLES, len(cells)), np.int64)
    drawn[:, used] = np.random.default_rng(seed).multinomial(cells.sum(), cells[used] / cells.sum(), RESAMPLES)
    return drawn.reshape(RESAMPLES, *counts.shape)


def interval(scores: npt.NDArray[np.float64]) -> Interval:
    """The interval of the scores of all draws, (RESAMPLES,)."""
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def interval_of_mean(values: npt.NDArray[np.float64], seed: int) -> Interval:
    """The interval of the mean of a value that each photo has, (n,)."""
    random, photos = np.random.default_rng(seed), len(values)
    block = max(1, _NUMBERS // photos)
    sizes = (min(block, RESAMPLES - done) for done in range(0, RESAMPLES, block))
    return interval(np.concatenate([values[random.integers(0, photos, (size, photos))].mean(axis=1) for size in sizes]))
