"""`car-damage review`: what waits, what was said, and a word, on folders only."""

import json

import pytest

from car_damage.commands import review
from car_damage.data.people.desk import Desk
from car_damage.data.people.waiting import Answer
from car_damage.errors import RequestRefused
from car_damage.platform import Target
from car_damage.settings import Settings
from tests.fakes import sha256

PHOTO = b"\xff\xd8\xff a photo"
ANSWER = Answer("minor", {"minor": 0.6, "major": 0.4}, ("minor", "major"), "model-3", "2026-06-01T12:00:00+00:00")


@pytest.fixture
def target(tmp_path):
    return Target(Settings(home=tmp_path / "home", answers={"keep_for_review": str(tmp_path / "kept")}))


@pytest.fixture
def desk(target):
    return Desk(target.files, target.settings.answers, target.clock)


def test_what_waits_is_printed_and_a_word_takes_it_off(target, desk):
    desk.keep(PHOTO, ANSWER)
    said = []
    review.waiting(target, False, said.append)
    assert said == [f"{sha256(PHOTO)}: minor (minor 0.600, major 0.400), answered by model-3 at 2026-06-01T12:00"]
    review.take(target, sha256(PHOTO), "severe", "Ann", said.append)
    assert said[1] == f"{sha256(PHOTO)}: major noted; major counts, said by Ann. The next run of retrain takes it up"
    review.waiting(target, False, said.append)
    assert said[2] == "nothing waits"
    review.show(target, sha256(PHOTO), True, said.append)
    shown = json.loads(said[3])
    assert (shown["counts"], shown["answer"]["label"], shown["history"][0]["by"]) == ("major", "minor", "Ann")
    review.show(target, sha256(PHOTO), False, said.append)
    assert said[-1].endswith(" Ann: major, which counts")


def test_a_file_outside_of_the_landing_folder_joins_the_corrections_and_one_in_it_does_not(target, tmp_path):
    landed, outside = tmp_path / "home" / "landing" / "minor" / "a.jpg", tmp_path / "b.jpg"
    landed.parent.mkdir(parents=True)
    for path in (landed, outside):
        path.write_bytes(PHOTO + path.name.encode())
        review.take(target, str(path), "major", "Ann", lambda _: None)
    photos = tmp_path / "home" / "corrections" / "photos"
    assert [path.name for path in photos.iterdir()] == [f"{sha256(outside.read_bytes())}.jpg"]


@pytest.mark.parametrize("named", ["../../../outside.jpg", "_hidden/a.jpg", "../.thumbs/a.jpg", "_a.jpg"])
def test_a_file_that_no_listing_of_the_landing_folder_has_joins_the_corrections(target, tmp_path, monkeypatch, named):
    folder = tmp_path / "home" / "landing" / "minor"
    folder.mkdir(parents=True)
    (folder / named).resolve().parent.mkdir(exist_ok=True)
    (folder / named).write_bytes(PHOTO)
    monkeypatch.chdir(folder)
    review.take(target, named, "major", "Ann", lambda _: None)
    assert (tmp_path / "home" / "corrections" / "photos" / f"{sha256(PHOTO)}.jpg").read_bytes() == PHOTO


@pytest.mark.parametrize(("photo", "label"), [("0" * 63, "major"), ("0" * 64, "huge")])
def test_a_word_that_cannot_be_used_is_one_sentence(target, photo, label):
    with pytest.raises(RequestRefused, match=r"neither a"):
        review.take(target, photo, label, "Ann", lambda _: None)


def test_where_nothing_is_kept_the_command_says_why(tmp_path):
    said = []
    review.waiting(Target(Settings(home=tmp_path)), False, said.append)
    assert "answers.keep_for_review names no folder" in said[0]
