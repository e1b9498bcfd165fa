import pyarrow as pa
import pytest

from car_damage.data.photos.splits import TEST, TRAIN, VALIDATION
from car_damage.data.photos.trained import seen, trained_photos

SCHEMA = pa.schema([("sha256", pa.string()), ("phash", pa.int64()), ("label", pa.string()), ("split", pa.string())])


def rows(split, hashes):
    columns = {"sha256": [*hashes], "phash": [*hashes.values()], "label": ["minor"] * len(hashes), "split": [split] * len(hashes)}
    return pa.table(columns, SCHEMA)


def photos(**hashes):
    """Test photos: name -> perceptual hash."""
    return rows(TEST, hashes)


def trained(split=TRAIN, **hashes):
    return trained_photos(rows(split, hashes))


@pytest.mark.parametrize("split", [TRAIN, VALIDATION])
def test_a_test_photo_that_was_trained_on_or_chosen_by_is_seen(split):
    assert seen(photos(a=0, b=-1), [trained(split, a=0xFFFF)], 8).tolist() == [True, False]


def test_a_test_photo_of_the_training_itself_is_not_seen():
    assert seen(photos(a=0), [trained(TEST, a=0)], 8).tolist() == [False]


@pytest.mark.parametrize(("apart", "bits", "found"), [(8, 8, True), (9, 8, False), (9, 9, True), (0, 0, True), (1, 0, False)])
def test_a_test_photo_that_looks_like_a_trained_one_is_seen_up_to_the_settings_distance(apart, bits, found):
    assert seen(photos(a=0), [trained(b=(1 << apart) - 1)], bits).tolist() == [found]


def test_hashes_whose_highest_bit_is_set_are_compared_as_bits():
    assert seen(photos(a=-1), [trained(b=2**63 - 1)], 1).tolist() == [True]


def test_the_photos_of_each_model_count():
    assert seen(photos(a=0, b=0xFF00, c=0xFF_0000_0000), [trained(x=1), trained(b=-1)], 2).tolist() == [True, True, False]


def test_without_a_list_nothing_is_seen():
    assert seen(photos(a=0, b=1), [], 8).tolist() == [False, False]
    assert seen(photos(a=0), [trained()], 8).tolist() == [False]
