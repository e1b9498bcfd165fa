"""What a registered model does to its network's probabilities before it answers: calibrates them, and says which classes it cannot exclude.

A copy of this module is part of every model, so it imports only numpy. `car_damage.model.quality.answers` fits it to validation photos.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float64]
"""(n, classes), each row adds up to 1."""
Sets = npt.NDArray[np.bool_]
"""(n, classes): whether a photo may be of the class."""

LONGEST = 1000
"""Scores of a class that are kept, at most. With more photos, coverage is then up to 1 / LONGEST larger than asked for."""
_SMALLEST = 1e-7
"""Lower bound of a probability, as in the log loss: an ordinal head gives 0 to what is between two others, and no temperature changes 0."""


@dataclass(frozen=True)
class Nonconformity:
    """How improbable the true class was, 1 less its probability, on calibration photos of one class."""

    photos: int
    """Calibration photos of the class."""
    scores: tuple[float, ...]
    """m of the scores, ascending, m <= `photos`: number j, counted from 1, has rank ceil(j * photos / m) among all of them."""

    @classmethod
    def of(cls, scores: npt.NDArray[np.float64]) -> "Nonconformity":
        """From the scores of all calibration photos of the class, (n,)."""
        kept = min(len(scores), LONGEST)
        ranks = [math.ceil(j * len(scores) / kept) for j in range(1, kept + 1)]
        return cls(len(scores), tuple(np.sort(scores)[np.array(ranks, np.int64) - 1].tolist()))

    def threshold(self, coverage: float) -> float:
        """The largest score with which the class is in a set: the one with rank ceil((photos + 1) * coverage).

        Infinite, so that the class is in every set, where there are too few photos for this coverage.
        """
        # Rounded, because 0.9 * 10 may be a little more than 9.
        rank = math.ceil(round((self.photos + 1) * coverage, 9))
        if rank > self.photos:
            return math.inf
        return self.scores[math.ceil(rank * len(self.scores) / self.photos) - 1]


@dataclass(frozen=True)
class SizeWeights:
    """Weights of the classes for photos of one size group."""

    pixels: int
    """Width times height from which the group begins, 0 for the first one. It ends where the next one begins."""
    weights: tuple[float, ...]
    """One a class."""


@dataclass(frozen=True)
class Answering:
    """From the network's probabilities to the answer's. By default they stay as they are, and no class can be excluded.

    Temperature scaling: p becomes p^(1 / temperature), and rows are brought to the sum 1 again. For a softmax this is the same as dividing
    its logits (Guo et al., On Calibration of Modern Neural Networks, 2017), and it needs no logits, which an ordinal head has not.
    """

    temperature: float = 1.0
    """Above 1, the network was too sure of itself."""
    weights: tuple[SizeWeights, ...] = ()
    """By which the probabilities are multiplied, for each size group, ascending. Empty: by nothing."""
    coverage: float = 0.9
    """The share of photos of each class whose set has their class, where a request asks for no other."""
    scores: tuple[Nonconformity, ...] = ()
    """One a class: see `sets`. Empty: there were no calibration photos."""

    def calibrated(self, probabilities: npt.NDArray[np.floating], pixels: Sequence[int] | npt.NDArray[np.int64]) -> Probabilities:
        """Calibrate the network's probabilities.

        Args:
            probabilities: (n, classes), each row adds up to 1.
            pixels: (n,) width times height of each upright photo.
        """
        given = np.asarray(probabilities, np.float64)
        if self.temperature == 1 and not self.weights:
            return given
        # With a row's largest probability as 1, nothing becomes too small for a number at a low temperature.
        odds = (np.maximum(given, _SMALLEST) / given.max(axis=1, keepdims=True)) ** (1 / self.temperature)
        if self.weights:
            odds *= self._factors[np.searchsorted(self._starts, pixels, side="right") - 1]
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def sets(self, probabilities: Probabilities, coverage: float | None = None) -> Sets:
        """The classes that cannot be excluded, by split conformal prediction with a threshold for each class.

        A class is in a photo's set unless its probability is lower than that of nearly all calibration photos of this class. So of the
        photos of each class, at least the share `coverage` has it in its set, on average over calibration sets, if photos and calibration
        photos are alike (Vovk, Conditional validity of inductive conformal predictors, 2012; Sadinle, Lei, Wasserman, Least ambiguous
        set-valued classifiers with bounded error levels, 2019; Angelopoulos, Bates, A gentle introduction to conformal prediction, 2021).

        Args:
            probabilities: calibrated ones.
            coverage: above 0 and below 1; None: the model's.
        """
        thresholds = self._thresholds if coverage is None else self.thresholds(coverage)
        return np.asarray(1 - probabilities <= thresholds if len(thresholds) else np.ones(probabilities.shape, bool))

    def thresholds(self, coverage: float) -> npt.NDArray[np.float64]:
        """(classes,) the largest 1 - p with which each class is in a set; (0,) without calibration photos."""
        return np.array([scores.threshold(coverage) for scores in self.scores])

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> "Answering":
        """What `write` has written."""
        given: dict[str, Any] = json.loads(file.read_text())
        given["weights"] = tuple(SizeWeights(one["pixels"], tuple(one["weights"])) for one in given["weights"])
        given["scores"] = tuple(Nonconformity(one["photos"], tuple(one["scores"])) for one in given["scores"])
        return cls(**given)

    @cached_property
    def _thresholds(self) -> npt.NDArray[np.float64]:
        return self.thresholds(self.coverage)

    @cached_property
    def _starts(self) -> list[int]:
        return [group.pixels for group in self.weights]

    @cached_property
    def _factors(self) -> npt.NDArray[np.float64]:
        return np.array([group.weights for group in self.weights])


def needs_a_person(sets: Sets, probabilities: Probabilities) -> npt.NDArray[np.bool_]:
    """(n,) whether a person must look at each photo: more than one class cannot be excluded, or none is left, or another one than the
    most probable one.
    """
    one = sets.sum(axis=1) == 1
    return np.asarray(~(one & sets[np.arange(len(sets)), probabilities.argmax(axis=1)]))
