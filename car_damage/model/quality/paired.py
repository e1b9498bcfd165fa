"""The gain of one model over another on the same photos.

Only the counts of photos with equal (truth, one's answer, the other's answer) matter, so the cost does not depend on the number of photos.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from car_damage.model.quality.bootstrap import Interval, interval, resampled
from car_damage.model.quality.evaluation import Counts, Labels, counts_of

Cells = npt.NDArray[np.int64]
"""(classes, classes, classes) photos by truth, answer of the candidate, and answer of the champion."""
Measure = Callable[[Counts], npt.NDArray[np.float64]]
"""A score of counts, such as `evaluation.macro_f1_of`."""


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of both models' scores, and of the gain."""

    candidate: Interval
    champion: Interval
    gain: Interval


def cells_of(truth: Labels, candidate: Labels, champion: Labels, classes: int) -> Cells:
    """Count photos by truth and both answers; each argument is (n,)."""
    return np.bincount((truth * classes + candidate) * classes + champion, minlength=classes**3).reshape(classes, classes, classes)


def intervals(cells: Cells, measure: Measure, seed: int) -> Intervals:
    """The paired bootstrap (Efron & Tibshirani 1993, ch. 8): both models on the same resampled photos, so that in the gain what is
    hard for both cancels out.
    """
    drawn = resampled(cells, seed)
    mine, theirs = measure(counts_of(drawn.sum(axis=3))), measure(counts_of(drawn.sum(axis=2)))
    return Intervals(interval(mine), interval(theirs), interval(mine - theirs))
