"""Labels that look wrong: which they are, and that a label which a person has said is not doubted."""

import numpy as np
import pyarrow as pa
import pytest

from car_damage.data.people.doubts import parse
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.doubt import SHARE, doubted
from car_damage.settings import Answers
from car_damage.stages.training.baselining import UnseenPhotos
from car_damage.stages.training.doubting import SHOWN, found

CLASSES = ("minor", "moderate", "major")
MEASURED = 2_289
"""Photos of the benchmark `doubt`."""


def test_the_label_with_the_lowest_probability_is_the_first_and_one_that_the_model_sees_too_is_none() -> None:
    labels = np.zeros(100, np.int64)
    said = np.tile([0.9, 0.1, 0.0], (100, 1))
    said[[7, 40, 60]] = [[0.3, 0.2, 0.5], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]]
    assert doubted(labels, said, 10).tolist() == [40, 7]
    assert doubted(labels, said, 1).tolist() == [40]
    assert doubted(labels, said, 0).tolist() == []


def test_of_many_labels_one_in_25_is_doubted_at_most() -> None:
    assert len(doubted(np.zeros(100, np.int64), np.tile([0.1, 0.9, 0.0], (100, 1)), 40)) == 4


def test_by_default_people_are_asked_about_all_of_these_labels_of_as_many_photos_as_were_measured() -> None:
    assert Answers().doubtful >= SHARE * MEASURED


def photos(names: str, label: int = 0) -> Photos:
    pixels = np.zeros((len(names), 8, 8, 3), np.uint8)
    return Photos(pixels, np.full(len(names), label), tuple(names), tuple(f"/photos/{name}.jpg" for name in names))


def test_labels_of_all_parts_are_doubted_together_but_not_what_a_person_has_said() -> None:
    asked = [
        UnseenPhotos("validation", photos("abc"), np.array([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])),
        UnseenPhotos("test", photos("de", 1), np.array([[0.8, 0.1, 0.1], [0.0, 0.9, 0.1]])),
    ]
    rows = pa.table({"sha256": list("abcde"), "label_from": [None, "review", None, None, None]})
    doubtful = found(asked, rows, CLASSES, 40, "2026-06-01T12:00:00+00:00")
    [one] = doubtful.doubts.photos
    assert (one.sha256, one.path, one.label, one.says, doubtful.doubts.among) == ("d", "/photos/d.jpg", "moderate", "minor", 4)
    [tile] = doubtful.tiles()
    assert (tile.words, tile.path) == ("labelled moderate\nmodel says minor (80%)", "/photos/d.jpg")
    assert parse(doubtful.doubts.written()) == doubtful.doubts


def test_all_doubtful_labels_are_listed_and_the_first_of_them_are_on_the_contact_sheet() -> None:
    names = [str(number) for number in range(1_500)]
    pixels = np.broadcast_to(np.uint8(0), (len(names), 8, 8, 3))
    many = Photos(pixels, np.zeros(len(names), np.int64), tuple(names), tuple(names))
    rows = pa.table({"sha256": names, "label_from": pa.nulls(len(names), pa.string())})
    doubtful = found([UnseenPhotos("test", many, np.tile([0.1, 0.9, 0.0], (len(names), 1)))], rows, CLASSES, 100, "now")
    assert (len(doubtful.doubts.photos), len(doubtful.tiles())) == (60, SHOWN)
    assert [tile.path for tile in doubtful.tiles()] == [one.path for one in doubtful.doubts.photos[:SHOWN]]


def test_without_photos_nothing_is_doubted() -> None:
    rows = pa.table({"sha256": pa.array([], pa.string()), "label_from": pa.array([], pa.string())})
    assert found([], rows, CLASSES, 40, "now").doubts.photos == ()


@pytest.mark.parametrize("data", [b"", b"{}", b'{"said": 1', b'{"said": "", "among": 0, "photos": [{"sha256": ""}]}'])
def test_half_a_file_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|no file of"):
        parse(data)
