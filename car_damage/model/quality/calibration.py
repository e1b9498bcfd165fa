"""How far probabilities can be believed, and what makes them believable. Plain numpy and scipy over labels and probabilities.

A model is calibrated if, of the photos that it answers with a probability of 0.8, 80 % have that class.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from car_damage.model.answering import Answering, Probabilities, SizeWeights
from car_damage.model.quality.evaluation import Labels, losses

BINS = 15
"""Bins of equal width from 0 to 1, as Guo et al. (2017) have it."""
MIN_PHOTOS = 30
"""Fewer photos change no probability: the standard error of a share of 30 photos is up to 9 points."""
HOTTEST = 5.0
"""The highest temperature; its inverse is the lowest. Guo et al. (2017) found 1 to 3."""
HEAVIEST = 10.0
"""The largest weight of a class; its inverse is the smallest."""


@dataclass(frozen=True)
class Reliability:
    """Photos by the probability of the class that was answered, in BINS bins. Each array is (BINS,); a bin without photos has zeros."""

    photos: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    """Mean probability of the answered class."""
    accuracy: npt.NDArray[np.float64]
    """Share of the photos that have this class."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy, each photo counting the same (Guo et al. 2017)."""
        return float((self.photos * np.abs(self.confidence - self.accuracy)).sum() / self.photos.sum())


def reliability(labels: Labels, probabilities: npt.NDArray[np.floating]) -> Reliability:
    """Put n > 0 photos into bins. A probability between two bins belongs to the lower one."""
    largest = probabilities.max(axis=1).astype(np.float64)
    of = np.clip(np.ceil(largest * BINS).astype(np.int64) - 1, 0, BINS - 1)
    photos = np.bincount(of, minlength=BINS)
    sums = (np.bincount(of, weights, BINS) for weights in (largest, probabilities.argmax(axis=1) == labels))
    confidence, accuracy = (total / np.maximum(photos, 1) for total in sums)
    return Reliability(photos, confidence, accuracy)


def temperature(labels: Labels, probabilities: npt.NDArray[np.floating]) -> float:
    """The temperature with the lowest log loss on n photos, (n, classes) (Guo et al. 2017).

    It is 1 where there are too few photos, or no mistake: then every lower temperature would have a lower loss.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) < MIN_PHOTOS or (probabilities.argmax(axis=1) == labels).all():
        return 1.0
    pixels = np.zeros(len(labels), np.int64)

    def loss(logarithm: float) -> float:
        return float(losses(labels, Answering(math.exp(logarithm)).calibrated(probabilities, pixels)).mean())

    return math.exp(minimize_scalar(loss, bounds=(-math.log(HOTTEST), math.log(HOTTEST)), method="bounded").x)


def class_weights(labels: Labels, probabilities: Probabilities) -> tuple[float, ...]:
    """The weight of each class, by which n probabilities are multiplied before they are brought to the sum 1, with the lowest log loss.

    It is the bias of vector scaling (Guo et al. 2017, 4.2). Each class counts the same in the loss, as in macro-F1. The first class has the
    weight 1. All weights are 1 where there are too few photos, or a class has none.
    """
    from scipy.optimize import minimize

    classes = int(probabilities.shape[1])
    if len(labels) < MIN_PHOTOS or len(np.unique(labels)) < classes:
        return (1.0,) * classes

    def loss(logarithms: npt.NDArray[np.float64]) -> float:
        weighted = Answering(weights=(SizeWeights(0, (1.0, *np.exp(logarithms))),)).calibrated(probabilities, zeros)
        return float((losses(labels, weighted) * shares).sum())

    shares = (1 / np.bincount(labels, minlength=classes) / classes)[labels]
    zeros, most = np.zeros(len(labels), np.int64), math.log(HEAVIEST)
    found = minimize(loss, np.zeros(classes - 1), method="L-BFGS-B", bounds=[(-most, most)] * (classes - 1))
    others: list[float] = np.exp(found.x).tolist()
    return (1.0, *others)
