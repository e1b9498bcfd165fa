"""Trainings with a part of the photos, for the report."""

import numpy as np
import numpy.typing as npt
import pytest

from car_damage.data.photos.groups import MIN_PHOTOS, Group
from car_damage.model.report.parts import Photos, measured

MANY = 2 * MIN_PHOTOS
NAMES = ("size_thumbnail", "source_a", "source_b")


def photos(count: int, sizes: tuple[int, ...]) -> Photos:
    """Photos of two classes in turn, in groups of these sizes."""
    starts = np.cumsum([0, *sizes[:-1]])
    groups = [Group(name, name, np.arange(start, start + size)) for name, start, size in zip(NAMES, starts, sizes, strict=True)]
    return Photos(np.arange(count) % 2, groups)


TRAIN, TEST = photos(100, (50, 30, 20)), photos(MANY + MIN_PHOTOS + 5, (MANY, MIN_PHOTOS, 5))


def learn(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Knows as many test photos as the share of the training photos that it has seen, and no photo of a group that it has not."""
    said = TEST.labels.copy()
    said[int(len(said) * len(rows) / len(TRAIN.labels)) :] ^= 1
    for of_train, of_test in zip(TRAIN.groups, TEST.groups, strict=True):
        if not np.isin(of_train.rows, rows).any():
            said[of_test.rows] = 1 - TEST.labels[of_test.rows]
    return said


def test_the_curve_has_a_training_for_each_share_on_the_same_test_photos() -> None:
    curve = measured(TRAIN, TEST, learn(np.arange(len(TRAIN.labels))), learn, 2, seed=1).curve
    assert [(point.share, point.photos) for point in curve] == [(0.25, 25), (0.5, 50), (0.75, 75), (1.0, 100)]
    scores = [point.macro_f1 for point in curve]
    assert scores == sorted(scores)
    assert scores[-1] == 1
    for point in curve:
        assert point.interval is not None
        assert point.interval[0] <= point.macro_f1 <= point.interval[1]


def test_each_large_group_is_left_out_once_and_asked_about() -> None:
    left_out = measured(TRAIN, TEST, learn(np.arange(len(TRAIN.labels))), learn, 2, seed=1).without_group
    assert [(one.group, one.photos) for one in left_out] == [("size_thumbnail", MANY), ("source_a", MIN_PHOTOS)]
    assert [(one.trained_with, one.trained_without) for one in left_out] == [(1, pytest.approx(0)), (1, pytest.approx(0))]


def test_what_leaves_one_class_is_no_training() -> None:
    alone = Photos(np.array([0, 0, 0, 0, 0, 1]), [Group("source_a", "a", np.arange(5, 6))])
    asked: list[int] = []

    def seen(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        asked.append(len(rows))
        return np.zeros(MIN_PHOTOS, np.int64)

    test = Photos(np.zeros(MIN_PHOTOS, np.int64), [Group("source_a", "a", np.arange(MIN_PHOTOS))])
    parts = measured(alone, test, seen(np.arange(6)), seen, 2, seed=1)
    assert [point.share for point in parts.curve] == [1.0]
    assert parts.without_group == ()
    assert asked == [6]
