"""Which labels look wrong: plain numpy over labels and probabilities.

A label's quality is its self-confidence, the probability that a model which has not learned from the photo gives to its label: Northcutt,
Jiang and Chuang 2021, Confident Learning, https://arxiv.org/abs/1911.00068, section 3.2. The lowest ones look wrong, where the model sees
another class.
"""

from math import ceil

import numpy as np
import numpy.typing as npt

SHARE = 0.04
"""Share of the photos whose labels are doubted, at most."""


def self_confidence(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(n,) the probability of each photo's label.

    Args:
        labels: (n,) class numbers.
        probabilities: (n, classes).
    """
    return np.asarray(probabilities[np.arange(len(labels)), labels], np.float64)


def doubted(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating], most: int) -> npt.NDArray[np.int64]:
    """(k,) indices of the rows whose labels look wrong, lowest self-confidence first: `most` of them, and `SHARE` of all, at most.

    Args:
        labels: (n,) class numbers.
        probabilities: (n, classes).
        most: rows.
    """
    quality = self_confidence(labels, probabilities)
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(quality[wrong], kind="stable")][: min(most, ceil(SHARE * len(labels)))]
