"""How good the answers of a window are: estimated without labels, and measured where there are labels.

The estimate takes calibrated probabilities at their word: of photos that are answered with a probability of 0.8, four in five are right.
So the expected number of photos of each true and predicted class follows from the probabilities alone (confidence-based performance
estimation, CBPE: NannyML's documentation, "Confidence-based Performance Estimation", and Guillory et al., Predicting with confidence on
unseen distributions, 2021). It sees photos on which the model has become unsure, and not those on which it is wrong and sure of itself:
only labels show these.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from car_damage.model.quality import bootstrap
from car_damage.model.quality.bootstrap import Interval
from car_damage.model.quality.evaluation import Counts, confusion_matrix, counts_of, macro_f1_of
from car_damage.monitoring.samples import Numbers, Sample


@dataclass(frozen=True)
class Estimated:
    """What n > 0 answers say of themselves."""

    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Measured:
    """What the labels of n > 0 photos say of the answers to them. Photos that people have reviewed are harder than the others."""

    photos: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval


def estimated(probabilities: Numbers) -> Estimated | None:
    """The estimate from calibrated probabilities, (n, classes); None without any."""
    if not len(probabilities):
        return None
    predicted = np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    counts = Counts((probabilities * predicted).sum(axis=0), probabilities.sum(axis=0), predicted.sum(axis=0))
    return Estimated(float(probabilities.max(axis=1).mean()), float(macro_f1_of(counts)))


def less_sure(baseline: Numbers, window: Numbers) -> float:
    """The probability of answers that are so much less sure, if window and baseline are alike.

    Args:
        baseline: (m, classes), m > 1.
        window: (n, classes), n > 1.
    """
    return _larger(baseline.max(axis=1), window.max(axis=1))


def more_wrong(baseline: Sample, window: Sample) -> float:
    """The probability that the answers to labelled photos are so much less often right than they promise, compared with the baseline's, if
    both are alike. Both have more than one label.
    """
    return _larger(shortfalls(window), shortfalls(baseline))


def shortfalls(of: Sample) -> Numbers:
    """(k,) for each labelled photo, what the probability of the answered class promises, less 1 if the answer is right. The mean depends on
    no choice of photos by their probabilities.
    """
    return np.asarray((of.probabilities.max(axis=1) - (of.predicted == of.labels))[of.known])


def measured(window: Sample, seed: int = 0) -> Measured | None:
    """What the labels say; None where there are none."""
    known = window.known
    if not known.any():
        return None
    probabilities, labels = window.probabilities[known], window.labels[known]
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    drawn = counts_of(bootstrap.resampled(confusion, seed))
    of_all, photos = counts_of(confusion), len(labels)
    accuracy = float(of_all.hits.sum() / photos)
    return Measured(
        photos=photos,
        accuracy=accuracy,
        accuracy_interval=bootstrap.interval(drawn.hits.sum(axis=1) / photos),
        macro_f1=float(macro_f1_of(of_all)),
        macro_f1_interval=bootstrap.interval(macro_f1_of(drawn)),
    )


def share_more(baseline: npt.NDArray[np.bool_], window: npt.NDArray[np.bool_]) -> float:
    """The probability of so many more in the window, if both have the same share: Fisher's exact test, one-sided."""
    from scipy.stats import fisher_exact

    counts = [[int(of.sum()), int((~of).sum())] for of in (window, baseline)]
    return float(fisher_exact(counts, alternative="greater").pvalue)


def _larger(one: Numbers, other: Numbers) -> float:
    """The probability of a mean of the first that is so much larger, if both are alike: Welch's test, one-sided, with the normal
    distribution (Welch, The generalization of Student's problem, 1947).
    """
    difference = float(one.mean() - other.mean())
    spread = math.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    return 0.5 * math.erfc(difference / spread / math.sqrt(2)) if spread > 0 else float(difference <= 0)
