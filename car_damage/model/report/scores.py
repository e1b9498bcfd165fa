"""The scores of a model on test photos, each with an interval: overall, by class, and by group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from car_damage.data.photos.groups import Group
from car_damage.data.photos.splits import TEST
from car_damage.model.quality.bootstrap import Interval, interval, interval_of_mean, resampled
from car_damage.model.quality.evaluation import Counts, Labels, confusion_matrix, counts_of, losses, macro_f1_of, mean_recall_of


@dataclass(frozen=True)
class Figure:
    """A score of the model on the test photos."""

    name: str
    value: float
    interval: Interval
    """95 % interval of the value: see `car_damage.model.quality.bootstrap`."""


@dataclass(frozen=True)
class ClassFigures:
    """How far the scores of one class may be from those on all photos of this kind."""

    label: str
    precision: Interval
    recall: Interval
    f1: Interval


@dataclass(frozen=True)
class GroupFigures:
    """The macro-F1 on one group of the test photos."""

    name: str
    what: str
    """What the photos have in common, in words."""
    photos: int
    macro_f1: float
    interval: Interval


@dataclass(frozen=True)
class Scores:
    """All scores of the model on the test photos."""

    figures: tuple[Figure, ...]
    by_class: tuple[ClassFigures, ...]
    groups: tuple[GroupFigures, ...]
    """Of the groups that are large enough."""
    small_groups: int
    """Groups that are too small to have a score."""

    def metrics(self) -> dict[str, float]:
        """`test_macro_f1_group_<name>` of each group, and `test_worst_group_macro_f1`."""
        of_groups = {f"{TEST}_macro_f1_group_{group.name}": group.macro_f1 for group in self.groups}
        return of_groups | ({f"{TEST}_worst_group_macro_f1": min(of_groups.values())} if of_groups else {})


def scores_of(  # noqa: PLR0917 - answers, and what they are measured by
    truth: Labels,
    probabilities: npt.NDArray[np.floating],
    costs: npt.NDArray[np.float64],
    classes: Sequence[str],
    groups: Sequence[Group],
    seed: int,
) -> Scores:
    """Measure answers to test photos.

    Args:
        truth: (n,) class numbers, n > 0.
        probabilities: (n, classes).
        costs: (classes, classes), rows are the true classes.
        classes: names, in the order of the columns.
        groups: of these photos.
        seed: of the draws of the bootstrap.
    """
    predicted = np.asarray(probabilities.argmax(axis=1), np.int64)
    confusion = confusion_matrix(truth, predicted, len(classes))
    # The first one is the confusion matrix itself, and the others are drawn.
    matrices = np.concatenate([confusion[None], resampled(confusion, seed)])
    counts, photos = counts_of(matrices), len(truth)
    measured = {
        "macro-F1": macro_f1_of(counts),
        "accuracy": counts.hits.sum(axis=-1) / photos,
        "mean recall": mean_recall_of(counts),
        "cost of mistakes, a photo": (matrices * costs).sum(axis=(-1, -2)) / photos,
    }
    loss = losses(truth, probabilities)
    return Scores(
        figures=(
            *(Figure(name, float(values[0]), interval(values[1:])) for name, values in measured.items()),
            Figure("log loss", float(loss.mean()), interval_of_mean(loss, seed)),
        ),
        by_class=_by_class(counts, classes),
        groups=tuple(_group(group, truth, predicted, len(classes), seed) for group in groups if group.is_large_enough),
        small_groups=sum(not group.is_large_enough for group in groups),
    )


def _by_class(counts: Counts, classes: Sequence[str]) -> tuple[ClassFigures, ...]:
    hits, support, predicted = (numbers[1:] for numbers in (counts.hits, counts.support, counts.predicted))
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    intervals = ([interval(scores[:, number]) for scores in (precision, recall, f1)] for number in range(len(classes)))
    return tuple(ClassFigures(label, *of_class) for label, of_class in zip(classes, intervals, strict=True))


def macro_f1_within(truth: Labels, predicted: Labels, classes: int, seed: int) -> tuple[float, Interval]:
    """Macro-F1 of the predictions for n > 0 photos, and its interval."""
    confusion = confusion_matrix(truth, predicted, classes)
    return float(macro_f1_of(counts_of(confusion))), interval(macro_f1_of(counts_of(resampled(confusion, seed))))


def _group(group: Group, truth: Labels, predicted: Labels, classes: int, seed: int) -> GroupFigures:
    score, spread = macro_f1_within(truth[group.rows], predicted[group.rows], classes, seed)
    return GroupFigures(group.name, group.what, len(group), score, spread)
