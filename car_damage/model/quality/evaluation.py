"""Measures predictions: plain numpy over labels and probabilities, no platform.

The precision of a class that is never predicted, and the recall of a class without photos, are 0/0. Both are set to
0.0, and the counts explain it. Macro-F1 is the mean over the classes that have photos: a class without photos has no F1,
and what is wrongly predicted as it already lowers the recall of the photos' true classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
"""(n,) class numbers, 0 to classes - 1."""
Numbers = npt.NDArray[np.int64 | np.float64]
"""Numbers of photos."""

_SMALLEST = 1e-7
"""Lower bound of probabilities in the log loss, as in Keras, so that one certain mistake does not make it infinite."""


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class."""

    label: str
    precision: float
    """Share of the photos predicted as this class that belong to it; 0.0 if none is predicted."""
    recall: float
    """Share of the photos of this class that are predicted as it; 0.0 if there are none."""
    f1: float
    support: int
    """Photos of this class."""
    predicted: int
    """Photos predicted as this class."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model on a set of photos."""

    photos: int
    accuracy: float
    macro_f1: float
    log_loss: float
    """Mean of -ln(probability of the true class), in nats."""
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    """confusion[true][predicted]: number of photos."""

    def metrics(self, prefix: str) -> dict[str, float]:
        """The metrics for comparing runs: `<prefix>_accuracy`, `<prefix>_recall_<class>` and so on."""
        summary = {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "log_loss": self.log_loss}
        summary |= {f"recall_{score.label}": score.recall for score in self.classes}
        return {f"{prefix}_{name}": value for name, value in summary.items()}


def evaluate(labels: Labels, probabilities: npt.NDArray[np.floating], classes: Sequence[str]) -> Evaluation:
    """Compare probabilities with the true labels.

    Args:
        labels: (n,) true class numbers.
        probabilities: (n, classes), each row adds up to 1. The first class with the largest probability is the predicted one.
        classes: names, in the order of the columns.

    Raises:
        ValueError: no photos, or shapes or class numbers that do not match.
    """
    if not len(labels) or probabilities.shape != (len(labels), len(classes)):
        raise ValueError(f"{len(labels)} labels and probabilities of shape {probabilities.shape} for {len(classes)} classes")
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, len(classes))
    scores = tuple(_score(name, confusion, number) for number, name in enumerate(classes))
    return Evaluation(
        photos=len(labels),
        accuracy=float(np.mean(labels == predicted)),
        macro_f1=macro_f1(labels, predicted, len(classes)),
        log_loss=float(losses(labels, probabilities).mean()),
        classes=scores,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def losses(labels: Labels, probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """-ln(probability of the true class) of each photo, in nats: (n,)."""
    of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(of_truth, _SMALLEST, 1.0))


def most_certain_mistakes(labels: Labels, probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """The rows whose predicted class is wrong, with the highest probability first."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]


def confusion_matrix(labels: Labels, predicted: Labels, classes: int) -> npt.NDArray[np.int64]:
    """(classes, classes) counts: rows are the true classes, columns the predicted ones.

    Raises:
        ValueError: a class number is outside of 0 to classes - 1.
    """
    for numbers in (labels, predicted):
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < classes):
            raise ValueError(f"class numbers {numbers.min()} to {numbers.max()} where there are {classes} classes")
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def macro_f1(labels: Labels, predicted: Labels, classes: int) -> float:
    """Mean F1 over the classes that occur in the labels; 0.0 without photos."""
    return float(macro_f1_of(counts_of(confusion_matrix(labels, predicted, classes))))


@dataclass(frozen=True)
class Counts:
    """Photos of each class, all that macro-F1 and recalls depend on. Leading dimensions are resamples; each array is (..., classes)."""

    hits: Numbers
    """Photos of the class that are predicted as it."""
    support: Numbers
    """Photos of the class."""
    predicted: Numbers
    """Photos predicted as the class."""


def counts_of(confusion: npt.NDArray[np.int64]) -> Counts:
    """The counts of confusion matrices, (..., classes, classes): rows are the true classes."""
    return Counts(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1), confusion.sum(axis=-2))


def macro_f1_of(counts: Counts) -> npt.NDArray[np.float64]:
    """Macro-F1: the mean of 2 hits / (support + predicted) over the classes with support. Shape (...)."""
    return _mean_over_classes(2 * counts.hits / np.maximum(counts.support + counts.predicted, 1), counts.support)


def mean_recall_of(counts: Counts) -> npt.NDArray[np.float64]:
    """Mean recall over the classes with support, which is one over their number for every model that always says the same. Shape (...)."""
    return _mean_over_classes(counts.hits / np.maximum(counts.support, 1), counts.support)


def _mean_over_classes(scores: npt.NDArray[np.float64], support: Numbers) -> npt.NDArray[np.float64]:
    occurs = support > 0
    mean: npt.NDArray[np.float64] = (scores * occurs).sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1)
    return mean


def _score(label: str, confusion: npt.NDArray[np.int64], number: int) -> ClassScore:
    hits, support, predicted = int(confusion[number, number]), int(confusion[number].sum()), int(confusion[:, number].sum())
    return ClassScore(
        label=label,
        precision=hits / predicted if predicted else 0.0,
        recall=hits / support if support else 0.0,
        f1=2 * hits / (support + predicted) if support + predicted else 0.0,
        support=support,
        predicted=predicted,
    )
