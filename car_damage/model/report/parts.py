"""Trainings with a part of the photos: would more photos help, and what does the model know of a group that it has never seen?

For networks that learn in seconds. Pure: the caller says how they learn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from car_damage.data.photos.groups import Group
from car_damage.model.quality.evaluation import Labels, macro_f1
from car_damage.model.report.contents import CurvePoint, WithoutGroup
from car_damage.model.report.scores import macro_f1_within

SHARES = (0.25, 0.5, 0.75)
"""Shares of the training photos, beside all of them."""
GROUPS = 10
"""Groups that are left out in turn, at most: those with the most test photos."""

Rows = npt.NDArray[np.int64]
Learn = Callable[[Rows], Labels]
"""From numbers of training photos, ascending, to what a network that has learned from them says of all test photos, (m,)."""


@dataclass(frozen=True)
class Photos:
    """The photos of a split."""

    labels: Labels
    """(n,) class numbers. Training photos are in an order that is as good as chance."""
    groups: Sequence[Group]


@dataclass(frozen=True)
class Parts:
    """What trainings with parts of the photos said."""

    curve: tuple[CurvePoint, ...] = ()
    without_group: tuple[WithoutGroup, ...] = ()


def measured(train: Photos, test: Photos, whole: Labels, learn: Learn, classes: int, seed: int) -> Parts:  # noqa: PLR0917
    """Train with each share of the photos, and without each group. Parts that have fewer than two classes are left out.

    Args:
        train: the training photos.
        test: the test photos, at least one.
        whole: what the network that has learned from all training photos says of the test photos.
        learn: trains with some of them.
        classes: number of classes.
        seed: of the intervals.
    """
    every = np.arange(len(train.labels))
    points = [_point(share, rows, learn(rows), test, classes, seed) for share in SHARES if _learnable(train, rows := _first(every, share))]
    points.append(_point(1.0, every, whole, test, classes, seed))
    return Parts(tuple(points), tuple(_without(train, test, learn, whole, classes)))


def _without(train: Photos, test: Photos, learn: Learn, whole: Labels, classes: int) -> Sequence[WithoutGroup]:
    rows_of: Mapping[str, Rows] = {group.name: group.rows for group in train.groups}
    found = []
    for group in sorted(test.groups, key=len, reverse=True)[:GROUPS]:
        left = np.setdiff1d(np.arange(len(train.labels)), rows_of.get(group.name, np.zeros(0, np.int64)))
        if not group.is_large_enough or len(left) == len(train.labels) or not _learnable(train, left):
            continue
        truth, without = test.labels[group.rows], learn(left)
        scores = (macro_f1(truth, predicted[group.rows], classes) for predicted in (whole, without))
        found.append(WithoutGroup(group.name, len(group), *scores))
    return found


def _point(share: float, rows: Rows, predicted: Labels, test: Photos, classes: int, seed: int) -> CurvePoint:  # noqa: PLR0917
    return CurvePoint(share, len(rows), *macro_f1_within(test.labels, predicted, classes, seed))


def _first(every: Rows, share: float) -> Rows:
    return every[: int(np.ceil(share * len(every)))]


def _learnable(train: Photos, rows: Rows) -> bool:
    return len(np.unique(train.labels[rows])) > 1
