"""The review desk on a folder: what is kept, for how long, and what was said; and the keeper beside the answer."""

import base64
import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from car_damage.adapters.folder import Folder
from car_damage.data.people.desk import REVIEWED, UNANSWERED, Desk
from car_damage.data.people.doubts import FILE as DOUBTS
from car_damage.data.people.doubts import Doubt, Doubts
from car_damage.data.people.shelf import LOOK
from car_damage.data.people.waiting import Answer
from car_damage.errors import Unavailable
from car_damage.server.keeping import QUEUED, Keeper
from car_damage.settings import Answers
from tests.fakes import Time, sha256


class Now(Time):
    """A clock that begins at the machine's time, which files get."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = datetime.now(UTC).timestamp()


class Counting(Folder):
    """Counts the listings, and the files that are read in each folder."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def list(self, folder):
        self.calls["listed"] += 1
        return super().list(folder)

    def read(self, path):
        self.calls[Path(path).parent.name] += 1
        return super().read(path)


class Far(Counting):
    """As a volume: who reads one file after the other waits too long."""

    def __init__(self) -> None:
        super().__init__()
        self.together = threading.Barrier(4)

    def read(self, path):
        if not path.endswith(DOUBTS):
            self.together.wait(10)
        return super().read(path)


@pytest.fixture
def clock():
    return Now()


def desk_of(folder, clock, **more):
    answers = Answers(corrections=str(folder / "corrections"), keep_for_review=str(folder / "kept"), **more)
    return Desk(Folder(), answers, clock)


@pytest.fixture
def desk(tmp_path, clock):
    return desk_of(tmp_path, clock)


def answer(sure=0.5, label="minor"):
    return Answer(label, {"minor": sure, "major": 1 - sure}, ("minor", "major"), "car_damage_classifier-3", "2026-06-01T12:00:00+00:00")


def photos(folder):
    return sorted(path.name for path in (folder / "kept").glob("*.photo"))


def test_photos_wait_with_their_answers_and_the_largest_doubt_is_first(desk):
    for photo, sure in ((b"a", 0.9), (b"b", 0.6), (b"c", 0.7)):
        assert desk.keep(photo, answer(sure))
    assert [(one.sha256, one.answer) for one in desk.waiting()] == [
        (sha256(p), answer(s)) for p, s in ((b"b", 0.6), (b"c", 0.7), (b"a", 0.9))
    ]
    assert desk.photo(sha256(b"a")) == b"a"
    assert not desk.keep(b"a", answer(0.4)), "it waits already"
    assert desk.dropped == 0


def test_nothing_is_kept_where_no_folder_is_named(tmp_path, clock):
    desk = Desk(Folder(), Answers(corrections=str(tmp_path)), clock)
    assert not desk.keep(b"a", answer())
    assert (desk.waiting(), desk.photo(sha256(b"a")), desk.dropped, list(tmp_path.iterdir())) == ([], None, 0, [])


def test_a_reviewed_photo_waits_no_longer_joins_the_corrections_and_goes_a_little_later(desk, clock, tmp_path):
    desk.keep(b"\xff\xd8\xffa", answer())
    name = sha256(b"\xff\xd8\xffa")
    said = desk.take(name, "major", "  Ann\u2003Lee ")
    assert (said.counts.label, said.counts.by, said.counts.version, said.counts.answered) == ("major", "Ann Lee", 3, "minor")
    assert (tmp_path / "corrections" / "photos" / f"{name}.jpg").read_bytes() == b"\xff\xd8\xffa"
    assert (desk.waiting(), len(photos(tmp_path))) == ([], 1)
    clock.sleep(2)
    assert desk.take(name, "undone", "Ann Lee").counts is None
    [waits] = desk.waiting()
    assert [word.label for word in waits.history] == ["major", "undone"]
    desk.take(name, "cannot_tell", "Bob")
    clock.sleep(REVIEWED.total_seconds() + 1)
    assert (desk.waiting(), photos(tmp_path)) == ([], [])
    assert not desk.keep(b"\xff\xd8\xffa", answer()), "a person has said what it is"


def test_a_photo_that_nobody_reviews_goes_after_its_days(desk, clock, tmp_path):
    desk.keep(b"a", answer())
    clock.sleep(timedelta(days=29).total_seconds())
    assert len(desk.waiting()) == 1
    clock.sleep(timedelta(days=2).total_seconds())
    assert (desk.waiting(), photos(tmp_path)) == ([], [])


def test_a_full_desk_drops_and_counts(tmp_path, clock):
    few = desk_of(tmp_path, clock, keep_photos=2)
    assert [few.keep(photo, answer()) for photo in (b"a", b"b", b"c", b"d")] == [True, True, False, False]
    assert (few.dropped, len(photos(tmp_path))) == (2, 2)
    small = desk_of(tmp_path / "small", clock, keep_bytes=1 << 20)
    assert [small.keep(bytes([n]) * (600 << 10), answer()) for n in range(2)] == [True, False]
    assert small.dropped == 1


def counted(folder, clock, files, **more):
    return Desk(files, Answers(corrections=str(folder / "corrections"), keep_for_review=str(folder / "kept"), **more), clock)


def test_photos_that_follow_each_other_list_the_folders_of_the_desk_and_of_the_words_once(tmp_path, clock):
    files = Counting()
    desk = counted(tmp_path, clock, files)
    assert all(desk.keep(b"%d" % number, answer()) for number in range(20))
    assert files.calls["listed"] == 2
    desk.take(sha256(b"said"), "major", "Ann")
    assert desk.keep(b"said", answer()), "at the latest look nobody had said anything"
    assert (len(desk.waiting()), len(photos(tmp_path))) == (20, 21), "nobody is asked about it"
    clock.sleep(REVIEWED.total_seconds() + 1)
    assert (len(desk.waiting()), len(photos(tmp_path)), desk.keep(b"said", answer())) == (20, 20, False)


def test_a_full_desk_is_looked_at_now_and_then_however_many_photos_come(tmp_path, clock):
    desk_of(tmp_path, clock).keep(b"a", answer())
    files = Counting()
    full = counted(tmp_path, clock, files, keep_photos=1)
    assert not any(full.keep(photo, answer()) for photo in (b"b", b"c", b"a", b"d"))
    assert (files.calls, full.dropped) == ({"listed": 2}, 3), "a waits already"
    full.take(sha256(b"a"), "major", "Ann")
    clock.sleep(REVIEWED.total_seconds() + 1)
    assert full.waiting() == []
    assert full.keep(b"b", answer())
    clock.sleep(LOOK.total_seconds())
    files.calls.clear()
    for _ in range(3):
        assert not any(full.keep(photo, answer()) for photo in (b"c", b"d"))
        clock.sleep(LOOK.total_seconds())
    assert files.calls == {"listed": 6}


def test_what_fits_on_a_desk_without_room_for_a_larger_photo_is_kept_once(tmp_path, clock):
    small = desk_of(tmp_path, clock, keep_bytes=1 << 20)
    large = bytes(600 << 10)
    assert [small.keep(photo, answer()) for photo in (large, b"x" + large, b"b", b"b")] == [True, False, True, False]
    assert small.dropped == 1


def test_hundreds_of_photos_on_a_volume_are_read_several_at_once_and_once_only(tmp_path, clock):
    names, kept = [sha256(b"%d" % number) for number in range(300)], tmp_path / "kept"
    kept.mkdir()
    for number, name in enumerate(names):
        (kept / f"{name}.photo").write_bytes(b"%d" % number)
        (kept / f"{name}.json").write_bytes(answer(number / 300).written())
    here, files = desk_of(tmp_path, clock), Far()
    for name in names[:8]:
        here.take(name, "major", "Ann")
    there = counted(tmp_path, clock, files)
    assert [one.sha256 for one in there.waiting()] == names[8:]
    assert (files.calls["words"], files.calls["kept"]) == (8, 292 + 1), "and the labels that look wrong"
    assert len(there.waiting()) == 292
    assert (files.calls["words"], files.calls["kept"]) == (8, 292 + 2)
    (kept / f"{names[299]}.json").write_bytes(answer(0.25, "moderate").written())
    files.together = threading.Barrier(1)
    assert next(one for one in there.waiting() if one.sha256 == names[299]).answer == answer(0.25, "moderate"), "it was asked again"


def test_half_a_word_as_storage_without_links_shows_it_counts_when_it_is_whole(desk, tmp_path):
    desk.keep(b"a", answer())
    desk.take(sha256(b"a"), "major", "Ann")
    [file] = (tmp_path / "corrections" / "words").iterdir()
    whole = file.read_bytes()
    other = desk_of(tmp_path, Now())
    for half in (b"", whole[:50], whole[:-1]):
        file.write_bytes(half)
        assert (len(other.waiting()), other.said(sha256(b"a")).counts) == (1, None)
    file.write_bytes(whole)
    assert (other.waiting(), other.said(sha256(b"a")).counts.label) == ([], "major")


def test_a_full_disk_drops_and_counts(desk, monkeypatch):
    def full(*_):
        raise Unavailable("No space left on device")

    monkeypatch.setattr(Folder, "write_once", full)
    assert (desk.keep(b"a", answer()), desk.dropped) == (False, 1)


def test_a_disk_that_is_full_before_the_answer_keeps_no_photo(desk, monkeypatch, tmp_path):
    write = Folder.write_once

    def full(self, path, data):
        if path.endswith(".json"):
            raise Unavailable("No space left on device")
        write(self, path, data)

    monkeypatch.setattr(Folder, "write_once", full)
    assert (desk.keep(b"a", answer()), desk.dropped, photos(tmp_path)) == (False, 1, [])


def test_a_photo_without_an_answer_as_a_kill_leaves_it_goes_after_some_minutes(desk, clock, tmp_path):
    desk.keep(b"a", answer())
    (tmp_path / "kept" / f"{sha256(b'a')}.json").unlink()
    desk.keep(b"b", answer())
    assert (len(desk.waiting()), len(photos(tmp_path))) == (1, 2)
    clock.sleep(UNANSWERED.total_seconds() + 1)
    assert (len(desk.waiting()), photos(tmp_path)) == (1, [f"{sha256(b'b')}.photo"])


@pytest.mark.parametrize("by", ["", "   ", "x" * 201])
def test_a_word_needs_the_name_of_a_person(desk, by):
    with pytest.raises(ValueError, match="by must be"):
        desk.take(sha256(b"a"), "major", by)


def request(*bodies: bytes) -> bytes:
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(one).decode()} for one in bodies]}).encode()


def answered(*asks: bool | None) -> bytes:
    rows = [
        {"label": "minor", "probability": 0.6, "probability_minor": 0.6, "probability_major": 0.4, "classes": ["minor", "major"]}
        for _ in asks
    ]
    return json.dumps(
        {"predictions": [row if ask is None else row | {"review": ask} for row, ask in zip(rows, asks, strict=True)]}
    ).encode()


FORMS = {
    "records": request(b"a", b"b"),
    "split": json.dumps({"dataframe_split": {"columns": ["x", "image"], "data": [[1, "YQ=="], [2, "Yg=="]]}}).encode(),
    "inputs": json.dumps({"inputs": {"image": ["YQ==", "Yg=="]}}).encode(),
    "rows": json.dumps({"inputs": [{"image": "YQ=="}, {"image": "Yg=="}]}).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_photos_of_answers_that_ask_for_a_person_are_kept(desk, form, tmp_path):
    keeper = Keeper(desk)
    keeper.offer(FORMS[form], answered(True, False), "model-7")
    keeper.offer(FORMS[form], answered(None, None), "model-7")
    assert keeper.settle(30)
    [waits] = desk.waiting()
    assert (waits.sha256, waits.answer.version, waits.answer.classes) == (sha256(b"a"), 7, ("minor", "major"))
    assert waits.answer.probabilities == {"minor": 0.6, "major": 0.4}


@pytest.mark.parametrize("form", ["data:image/jpeg;base64,-_-_", "-_-_", "+/+/\n"])
def test_a_photo_is_kept_by_its_own_bytes_in_each_form_of_base64(desk, form):
    keeper = Keeper(desk)
    keeper.offer(json.dumps({"dataframe_records": [{"image": form}]}).encode(), answered(True), "model-7")
    assert keeper.settle(30)
    assert [one.sha256 for one in desk.waiting()] == [sha256(b"\xfb\xff\xbf")]


def test_what_cannot_be_understood_is_dropped_and_the_next_one_is_kept(desk):
    keeper = Keeper(desk)
    keeper.offer(b"image\nYQ==", answered(True), "model-7")
    keeper.offer(request(b"a", b"b"), answered(True), "model-7")
    keeper.offer(request(b"c"), answered(True), "model-7")
    assert keeper.settle(30)
    assert desk.dropped == 2
    assert sha256(b"c") in {one.sha256 for one in desk.waiting()}


def test_a_full_queue_drops_at_once(desk):
    keeper = Keeper(desk)
    keeper.offer(b"x" * (QUEUED + 1), answered(True), "model-7")
    assert (desk.dropped, keeper.settle(30)) == (1, True)


def doubted(*labels, path="/nowhere"):
    photos = [
        Doubt(sha256(photo), str(path), label, {"minor": 0.2 + place / 10, "major": 0.8 - place / 10})
        for place, (photo, label) in enumerate(labels)
    ]
    return Doubts("2026-06-01T12:00:00+00:00", tuple(photos))


def test_labels_that_look_wrong_come_after_answers_until_a_person_has_spoken_and_a_later_training_replaces_them(desk, tmp_path):
    (tmp_path / "landed.jpg").write_bytes(b"b")
    desk.doubt(doubted((b"b", "minor"), path=tmp_path / "landed.jpg"))
    assert [desk.keep(photo, answer(0.6)) for photo in (b"a", b"b")] == [True, False]
    assert [(one.sha256, one.answer.label, one.labelled) for one in desk.waiting()] == [
        (sha256(b"a"), "minor", None),
        (sha256(b"b"), "major", "minor"),
    ]
    assert desk.photo(sha256(b"b")) == b"b"
    said = desk.take(sha256(b"b"), "minor", "Ann")
    assert (said.counts.label, said.counts.answered, list((tmp_path / "corrections").glob("photos/*"))) == ("minor", "major", [])
    assert [one.sha256 for one in desk.waiting()] == [sha256(b"a")]
    desk.doubt(doubted((b"c", "minor")))
    assert [one.sha256 for one in desk.waiting()] == [sha256(b"a"), sha256(b"c")]
    assert desk.photo(sha256(b"c")) is None


def test_a_doubtful_photo_that_is_another_one_by_now_is_not_shown(desk, tmp_path):
    (tmp_path / "landed.jpg").write_bytes(b"another")
    desk.doubt(doubted((b"a", "minor"), path=tmp_path / "landed.jpg"))
    assert desk.photo(sha256(b"a")) is None


def test_half_a_list_of_doubtful_labels_is_none(desk, tmp_path):
    desk.doubt(doubted((b"a", "minor")))
    [file] = (tmp_path / "kept").iterdir()
    for half in (file.read_bytes()[:50], b"[]", b'{"said": "", "photos": [{}]}'):
        file.write_bytes(half)
        assert desk.waiting() == []


def test_nothing_is_asked_where_nothing_is_kept(tmp_path, clock):
    desk = Desk(Folder(), Answers(corrections=str(tmp_path)), clock)
    desk.doubt(doubted((b"a", "minor")))
    assert (desk.waiting(), list(tmp_path.iterdir())) == ([], [])
