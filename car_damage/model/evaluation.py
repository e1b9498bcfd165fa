"""Measures predictions: plain numpy over labels and probabilities, no platform.

The precision of a class that is never predicted, and the recall of a class without photos, are 0/0. Both are set to
0.0, and the counts explain it. Macro-F1 is the mean over the classes that occur in the labels or the
predictions; other classes are left out, because they contain no information about the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
"""(n,) class numbers, 0 to classes - 1."""

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
    of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return Evaluation(
        photos=len(labels),
        accuracy=float(np.mean(labels == predicted)),
        macro_f1=macro_f1(labels, predicted, len(classes)),
        log_loss=float(-np.log(np.clip(of_truth, _SMALLEST, 1.0)).mean()),
        classes=scores,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


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
    """Mean F1 over the classes that occur in the labels or the predictions; 0.0 without photos."""
    if not len(labels):
        return 0.0
    return float(macro_f1_of_resamples(labels, predicted, np.arange(len(labels))[None], classes)[0])


def macro_f1_of_resamples(
    labels: Labels, predicted: Labels, indices: npt.NDArray[np.integer], classes: int | None = None
) -> npt.NDArray[np.float64]:
    """Macro-F1 of many resamples of the same photos.

    Args:
        labels: (n,) true class numbers.
        predicted: (n,) predicted class numbers.
        indices: (resamples, m) row numbers into both.
        classes: number of classes; None: one more than the largest class number.

    Returns:
        (resamples,) float64.
    """
    if classes is None:
        classes = int(max(labels.max(), predicted.max())) + 1
    total = np.zeros(len(indices))
    occurring = np.zeros(len(indices))
    for number in range(classes):
        is_true, is_predicted = labels == number, predicted == number
        # F1 = 2 TP / (photos of the class + photos predicted as it), so two sums per class are enough.
        hits = (is_true & is_predicted)[indices].sum(axis=1)
        either = (is_true.astype(np.int8) + is_predicted)[indices].sum(axis=1)
        total += 2 * hits / np.maximum(either, 1)
        occurring += either > 0
    return total / np.maximum(occurring, 1)


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
