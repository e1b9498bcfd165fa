"""What people say about photos: the files of their words, and which word counts."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from car_damage.data.people import reviews
from car_damage.data.people.reviews import Word
from tests.fakes import sha256
from tests.planning import Photo, decide, reasons, unlike

PHOTO = b"a photo"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Shelf:
    """Port Files, but only what writes and reads one file."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def write_once(self, path: str, data: bytes) -> None:
        if path in self.files:
            raise FileExistsError(path)
        self.files[path] = data


def word(label: str, by: str = "Ann", minute: int = 0, photo: bytes = PHOTO) -> Word:
    return Word(sha256(photo), label, by, NOON + timedelta(minutes=minute), 3, "minor")


def standing(*words: Word) -> dict[str, str]:
    return reviews.standing(reviews.rows({one.file(f"id{at}"): one for at, one in enumerate(words)}))


def test_a_word_is_a_file_that_is_read_back_as_it_was_said_and_its_photo_is_there_first():
    shelf = Shelf()
    reviews.say(shelf, "/c/", word("major"), "abc", photo=PHOTO, suffix=".jpg")
    photo, path = shelf.files
    assert (photo, path) == (f"/c/photos/{sha256(PHOTO)}.jpg", f"/c/words/{sha256(PHOTO)}-20260601T120000.000000Z-abc.json")
    assert reviews.parse(path, shelf.files[path]) == word("major")
    reviews.say(shelf, "/c/", word("major"), "abc", photo=PHOTO, suffix=".jpg")
    assert len(shelf.files) == 2


@pytest.mark.parametrize("label", [reviews.NOT_A_CAR, reviews.CANNOT_TELL, reviews.UNDONE])
def test_a_photo_that_trains_nothing_is_not_kept(label):
    shelf = Shelf()
    reviews.say(shelf, "/c/", word(label), "abc", photo=PHOTO, suffix=".jpg")
    assert [path.split("/")[2] for path in shelf.files] == ["words"]


@pytest.mark.parametrize(
    "change",
    [
        {"label": ""},
        {"by": "x" * 201},
        {"by": "Ann\nEve"},
        {"sha256": "0" * 63},
        {"said": "2026-06-01T12:00:00"},
        {"version": "3"},
        {"x": 1},
    ],
)
def test_a_file_that_is_no_word_is_refused(change):
    whole = {"sha256": sha256(PHOTO), "label": "major", "by": "Ann", "said": NOON.isoformat(), "version": 3, "answered": "minor"}
    path = "/c/words/" + word("major").file("abc")
    assert reviews.parse(path, json.dumps(whole).encode()) == word("major")
    with pytest.raises(ValueError):  # noqa: PT011 - each field has a message of its own
        reviews.parse(path, json.dumps(whole | change).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff"])
def test_half_a_word_is_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011 - that of json, or ours
        reviews.parse("/c/words/" + word("major").file("abc"), data)


def test_a_later_word_counts_before_an_earlier_one_in_whatever_order_they_are_read():
    assert standing(word("major", "Bob", 2), word("minor", "Ann", 1)) == {sha256(PHOTO): "major"}


def test_undoing_takes_back_the_person_s_own_latest_word_and_no_one_else_s():
    first, second = word("minor", "Ann", 1), word("major", "Bob", 2)
    assert standing(first, second, word("undone", "Bob", 3)) == {sha256(PHOTO): "minor"}
    assert standing(first, second, word("undone", "Ann", 3)) == {sha256(PHOTO): "major"}
    assert standing(first, word("undone", "Ann", 3)) == {}
    assert standing(first, word("undone", "Bob", 3)) == {sha256(PHOTO): "minor"}
    assert standing(first, word("moderate", "Ann", 2), word("undone", "Ann", 3)) == {sha256(PHOTO): "minor"}
    assert standing(word("undone", "Ann", 3), word("major", "Ann", 4)) == {sha256(PHOTO): "major"}


def test_the_words_of_one_photo_say_nothing_of_another():
    assert standing(word("major"), word("minor", photo=b"other")) == {sha256(PHOTO): "major", sha256(b"other"): "minor"}


def test_the_word_that_counts_is_found_among_those_of_a_photo():
    first, undone = word("minor", minute=1), word("undone", minute=2)
    assert reviews.counting([first]) == first
    assert reviews.counting([first, undone]) is None


@pytest.mark.parametrize(("label", "meant"), [("major", "major"), ("Severe", "major"), ("not a car", "not_a_car"), ("undone", "undone")])
def test_a_person_may_use_an_alias(label, meant):
    assert reviews.checked(label, ("minor", "major"), {"severe": "major"}) == meant


def test_a_word_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match="'huge' is neither a class"):
        reviews.checked("huge", ("minor", "major"), {})


def plan(*photos: Photo):
    planned = decide(list(photos))
    labels = dict(zip(planned.rows["path"].to_pylist(), planned.rows["label"].to_pylist(), strict=True))
    return planned, labels


def test_a_person_s_label_wins_over_the_folder_s_and_bronze_keeps_the_folder_s():
    planned, labels = plan(Photo("/p/minor/a", "minor", unlike(1), said="major"), Photo("/p/minor/b", "minor", unlike(2)))
    assert labels == {"/p/minor/a": "major", "/p/minor/b": "minor"}
    assert dict(zip(planned.rows["path"].to_pylist(), planned.rows["label_from"].to_pylist(), strict=True)) == {
        "/p/minor/a": "review",
        "/p/minor/b": None,
    }
    assert not planned.verdicts.num_rows, "bronze says what it said"


def test_a_person_settles_a_photo_that_lies_in_two_folders():
    first, second = (Photo(f"/p/{name}/a", name, unlike(1), "same", said="major") for name in ("minor", "major"))
    planned, labels = plan(second, first)
    assert labels == {"/p/major/a": "major"}
    assert reasons(planned) == {"/p/minor/a": "duplicate"}


def test_a_photo_without_a_label_of_its_own_is_used_with_a_person_s():
    planned, labels = plan(Photo("/p/a", None, unlike(1), status="rejected", reason="no label", no_label="no label", said="minor"))
    assert labels == {"/p/a": "minor"}
    assert [(row["label"], row["status"], row["reason"]) for row in planned.verdicts.to_pylist()] == [(None, "valid", None)]


@pytest.mark.parametrize("reason", ["not a car", "cannot tell"])
def test_a_photo_of_which_a_person_knows_no_class_is_not_used_and_is_again_when_the_word_is_taken_back(reason):
    planned, labels = plan(Photo("/p/minor/a", "minor", unlike(1), withheld=reason))
    assert (labels, reasons(planned)) == ({}, {"/p/minor/a": reason})
    assert [(row["label"], row["status"], row["reason"]) for row in planned.verdicts.to_pylist()] == [("minor", "rejected", reason)]
    assert plan(Photo("/p/minor/a", "minor", unlike(1), status="rejected", reason=reason))[1] == {"/p/minor/a": "minor"}


def test_a_photo_that_cannot_be_decoded_is_not_used_whatever_a_person_says():
    planned, labels = plan(Photo("/p/minor/a", "minor", 0, status="rejected", reason="truncated", said="major"))
    assert (labels, reasons(planned)) == ({}, {"/p/minor/a": "truncated"})


def test_a_word_changes_the_fingerprint_of_silver():
    before, after = (plan(Photo("/p/minor/a", "minor", unlike(1), said=said))[0].fingerprint for said in (None, "major"))
    assert before != after
