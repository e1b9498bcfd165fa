"""The table of features, as data: what of it counts, what is missing, and what may go."""

import numpy as np
import pyarrow as pa

from car_damage.data.photos.features import FEATURES, KEY, found, rows, superfluous

VIEWS = ("plain", "mirrored")


def values(seed: int, photos: int = 2, length: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((photos, length), np.float32)


def table(*parts: pa.Table) -> pa.Table:
    return pa.concat_tables([FEATURES.empty_table(), *parts])


def test_features_come_back_by_photo_and_view_whatever_the_order_of_the_rows() -> None:
    plain, mirrored = values(1), values(2)
    kept = table(rows("d", ["b", "a"], "mirrored", mirrored), rows("d", ["a", "b"], "plain", plain))
    features, there = found(kept, "d", ["a", "b", "c"], VIEWS, 3)
    assert there.tolist() == [[True, True], [True, True], [False, False]]
    assert np.array_equal(features[:2, 0], plain)
    assert np.array_equal(features[:2, 1], mirrored[::-1])
    assert np.isnan(features[2]).all()


def test_rows_of_another_digest_are_never_read() -> None:
    kept = table(rows("foreign", ["a"], "plain", values(1, 1)), rows("stale", ["a"], "mirrored", values(2, 1)))
    assert not found(kept, "d", ["a"], VIEWS, 3)[1].any()


def test_a_row_of_another_length_or_without_numbers_counts_as_missing() -> None:
    short, empty = rows("d", ["a"], "plain", values(1, 1, 2)), rows("d", ["b"], "plain", np.array([[1, np.nan, 2]], np.float32))
    null = pa.table([["c"], ["plain"], ["d"], pa.array([None], pa.list_(pa.float32()))], schema=FEATURES)
    assert not found(table(short, empty, null), "d", ["a", "b", "c"], ("plain",), 3)[1].any()


def test_a_table_that_is_not_there_has_no_features() -> None:
    absent = pa.table({name: pa.nulls(0) for name in FEATURES.names})
    features, there = found(absent, "d", ["a"], VIEWS, 3)
    assert (features.shape, there.any()) == ((1, 2, 3), False)


def test_rows_of_unneeded_digests_and_of_photos_that_left_may_go() -> None:
    kept = table(*(rows(digest, [photo], "plain", values(1, 1)) for digest in ("champion", "old") for photo in ("here", "left")))
    gone = superfluous(kept.select(list(KEY)), {"champion"}, {"here", "more"})
    assert [(row["digest"], row["sha256"]) for row in gone.to_pylist()] == [("champion", "left"), ("old", "here"), ("old", "left")]
