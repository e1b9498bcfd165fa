import functools
import hashlib
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from car_damage.settings import Split
from tests.planning import NOTHING, Photo, crossing, decide, many, reasons, splits

hashes = st.tuples(st.sampled_from([0, 0xFFFF, 0xFFFF_0000_FFFF]), st.lists(st.integers(0, 47), max_size=6)).map(
    lambda drawn: functools.reduce(lambda value, bit: value ^ (1 << bit), drawn[1], drawn[0])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(hashes, st.sampled_from(["minor", "major"])), max_size=40), st.lists(st.integers(0, 4), min_size=40, max_size=40))
def test_no_two_photos_that_look_alike_are_ever_in_different_splits(drawn, arrivals):
    photos = [Photo(f"/p/{number:02}", label, phash) for number, (phash, label) in enumerate(drawn)]
    silver, before = NOTHING, {}
    for day in range(5):
        planned = decide([photo for photo, arrival in zip(photos, arrivals, strict=False) if arrival <= day], silver)
        assert crossing(planned.rows) == []
        assert before.items() <= splits(planned).items()
        assert set(reasons(planned).values()) <= {"ambiguous split"}
        silver, before = planned.rows, splits(planned)
    again = decide(photos, silver)
    assert (again.upsert.num_rows, again.remove.num_rows) == (0, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(hashes, min_size=2, max_size=25), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_decides_nothing(drawn, random):
    photos = [Photo(f"/p/{number:02}", ["minor", "major"][number % 2], phash) for number, phash in enumerate(drawn)]
    silver = decide(photos[::2]).rows
    planned = decide(photos, silver)
    random.shuffle(photos)
    shuffled = decide(photos, silver.take(list(reversed(range(silver.num_rows)))))
    assert planned.fingerprint == shuffled.fingerprint
    assert reasons(planned) == reasons(shuffled)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["minor", "moderate", "major"]), st.integers(3, 6), min_size=1),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_a_class_of_three_photos_has_one_in_each_split_however_they_arrive(counts, at_once, random):
    photos = [photo for place, (label, count) in enumerate(counts.items()) for photo in many(count, label, 100 * place)]
    random.shuffle(photos)
    silver = NOTHING
    for arrived in [len(photos)] if at_once else range(1, len(photos) + 1):
        silver = decide(photos[:arrived], silver).rows
    found = defaultdict(set)
    for row in silver.to_pylist():
        found[row["label"]].add(row["split"])
    assert found == {label: {"train", "validation", "test"} for label in counts}


def test_a_class_with_two_photos_has_one_to_train_on_and_one_to_test_with():
    assert sorted(splits(decide(many(2))).values()) == ["test", "train"]


def test_a_large_table_is_divided_by_the_shares_of_the_settings():
    found = list(splits(decide(many(4000), split=Split(test=0.2, validation=0.1))).values())
    assert found.count("test") == pytest.approx(800, abs=2)
    assert found.count("validation") == pytest.approx(400, abs=2)


def test_few_photos_are_divided_by_the_shares_too_class_by_class_and_however_they_arrive():
    labels = ("minor", "moderate", "major")
    photos = [photo for start, label in enumerate(labels) for photo in many(20, label, start * 100)]
    at_once = decide(photos)
    one_by_one = NOTHING
    for count in range(1, len(photos) + 1):
        one_by_one = decide(photos[:count], one_by_one).rows
    for rows in (at_once.rows, one_by_one):
        found = [(row["label"], row["split"]) for row in rows.to_pylist()]
        assert all(found.count((label, split)) == 3 for label in labels for split in ("test", "validation"))


def test_a_photo_that_resembles_photos_of_one_split_joins_it():
    stored = many(3)
    silver = decide(stored).rows
    before = splits(decide(stored))
    alike = [Photo(f"/new/{photo.path}", "minor", photo.phash ^ 0b1011) for photo in stored]
    found = splits(decide(stored + alike, silver))
    assert all(found[f"/new/{path}"] == split for path, split in before.items())


def bridge():
    """Two stored photos in different splits, 16 bits apart, and the silver rows."""
    train, test = Photo("/p/a", "minor", 0), Photo("/p/b", "minor", 0xFFFF)
    silver = decide([train, test]).rows
    assert set(splits(decide([train, test])).values()) == {"train", "test"}
    return train, test, silver


def test_a_photo_that_resembles_both_sides_is_used_on_neither():
    train, test, silver = bridge()
    middle = Photo("/p/m", "minor", 0x00FF)
    planned = decide([train, test, middle], silver)
    assert reasons(planned) == {"/p/m": "ambiguous split"}
    assert planned.verdicts.to_pylist()[0]["reason"] == "ambiguous split"
    assert planned.rows.num_rows == 2


def test_an_ambiguous_photo_stays_unused_when_one_side_is_gone():
    train, _, silver = bridge()
    middle = Photo("/p/m", "minor", 0x00FF, status="rejected", reason="ambiguous split")
    planned = decide([train, middle], silver)
    assert reasons(planned) == {"/p/m": "ambiguous split"}
    assert (planned.remove.num_rows, planned.verdicts.num_rows) == (1, 0)


def test_what_lies_behind_an_ambiguous_photo_forms_a_group_of_its_own():
    train, test, silver = bridge()
    middle = Photo("/p/m", "minor", 0x00FF)
    behind = [Photo("/p/x", "minor", 0x00FF ^ 0xFF << 40), Photo("/p/y", "minor", 0x00FF ^ 0xFF << 40 ^ 0xF << 52)]
    planned = decide([train, test, middle, *behind], silver)
    assert reasons(planned) == {"/p/m": "ambiguous split"}
    assert splits(planned)["/p/x"] == splits(planned)["/p/y"] == "validation"


def test_photos_with_one_hash_share_a_split_without_a_distance():
    photos = [Photo(f"/p/{number}", "minor", 77) for number in range(30)]
    assert len(set(splits(decide(photos, split=Split(near_duplicate_bits=0))).values())) == 1


def test_a_content_keeps_its_split_when_its_label_and_its_path_change():
    stored = many(5)
    planned = decide(stored)
    moved = [Photo(f"/z/{photo.path}", "major", photo.phash, content=photo.path) for photo in stored]
    again = decide(moved, planned.rows)
    assert splits(again) == {f"/z/{path}": split for path, split in splits(planned).items()}
    assert (again.added, again.changed, again.remove.num_rows) == (0, 5, 0)


def test_of_equal_photos_the_smallest_path_is_used_and_named_by_the_others():
    photos = [Photo(path, "minor", 5, content="same") for path in ("/p/c", "/p/a", "/p/b")]
    planned = decide(photos)
    assert list(splits(planned)) == ["/p/a"]
    assert {(row["path"], row["reason"], row["detail"]) for row in planned.verdicts.to_pylist()} == {
        ("/p/b", "duplicate", "/p/a"),
        ("/p/c", "duplicate", "/p/a"),
    }


def test_a_content_under_two_labels_is_used_under_neither():
    photos = [Photo("/p/a", "minor", 5, content="same"), Photo("/p/b", "major", 5, content="same"), Photo("/p/c", "minor", 9)]
    planned = decide(photos)
    assert reasons(planned) == {"/p/a": "conflicting labels", "/p/b": "conflicting labels"}
    assert {row["detail"] for row in planned.verdicts.to_pylist()} == {"major, minor"}
    resolved = decide(photos[1:], planned.rows)
    assert resolved.rows.num_rows == 2


def test_a_photo_without_a_label_neither_conflicts_nor_is_used():
    photos = [Photo("/p/a", None, 5, content="same", no_label="unknown label"), Photo("/p/b", "major", 5, content="same")]
    planned = decide(photos)
    assert list(splits(planned)) == ["/p/b"]
    assert reasons(planned) == {"/p/a": "unknown label"}


@pytest.mark.parametrize("reason", ["truncated", "too small", "forgotten"])
def test_a_verdict_on_the_photo_itself_is_never_made_afresh(reason):
    planned = decide([Photo("/p/a", "minor", 5, status="rejected", reason=reason)])
    assert (planned.rows.num_rows, planned.verdicts.num_rows) == (0, 0)
    assert reasons(planned) == {"/p/a": reason}


def test_a_known_table_is_planned_without_looking_for_near_duplicates(monkeypatch):
    photos = many(20)
    silver = decide(photos).rows
    monkeypatch.delattr("car_damage.data.photos.near_duplicates.components")
    monkeypatch.delattr("car_damage.data.photos.near_duplicates.touched")
    planned = decide(photos, silver)
    assert (planned.upsert.num_rows, planned.remove.num_rows, planned.verdicts.num_rows) == (0, 0, 0)


def test_the_fingerprint_follows_content_label_and_split_and_not_the_path():
    photos = many(4)
    planned = decide(photos)
    moved = decide([Photo(f"/z{p.path}", p.label, p.phash, content=p.path) for p in photos], planned.rows)
    relabelled = decide([Photo(p.path, "major", p.phash) for p in photos], planned.rows)
    lines = sorted(f"{row['sha256']}\t{row['label']}\t{row['split']}\n" for row in planned.rows.to_pylist())
    assert planned.fingerprint == moved.fingerprint == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert planned.fingerprint != relabelled.fingerprint


def test_a_group_of_two_classes_goes_to_train_when_one_of_them_has_nothing_to_train_on():
    stored = many(1)
    silver = decide(stored).rows
    group = [Photo("/p/g", "minor", 5), Photo("/p/h", "major", 5)]
    assert splits(decide(stored + group, silver)) == {"/p/g": "train", "/p/h": "train", "/p/minor/0": "train"}


@pytest.mark.parametrize("turn", range(6))
def test_of_two_that_meet_halfway_the_smaller_sha256_is_used(turn):
    train, test = Photo("/p/a", "minor", 0), Photo("/p/b", "minor", 0xFFFFFF)
    silver = decide([train, test]).rows
    meeting = [Photo("/p/x", "minor", 0xFF, content=f"x{turn}"), Photo("/p/y", "minor", 0xFFFF, content=f"y{turn}")]
    first, second = sorted(meeting, key=lambda photo: photo.sha256)
    planned = decide([train, test, *meeting], silver)
    assert reasons(planned) == {second.path: "ambiguous split"}
    assert first.path in splits(planned)
