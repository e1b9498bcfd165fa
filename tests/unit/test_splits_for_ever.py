"""A split is for ever: what a model has learned from a photo stays learned after the photo has left."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planning import NOTHING, Nights, Photo, crossing, decide, many, splits

CLASSES = ("minor", "moderate", "major")


def three_classes(count=8):
    return [photo for place, label in enumerate(CLASSES) for photo in many(count, label, 100 * place)]


def saved_again(photo, bits=0b1011):
    """The same picture in a new file at the same path, as after a recompression."""
    return replace(photo, content=f"{photo.path} saved again", phash=photo.phash ^ bits)


def test_photos_that_are_all_saved_again_in_place_keep_their_splits():
    nights, photos = Nights(), three_classes()
    before = nights.night(*photos)
    assert nights.night(*map(saved_again, photos)) == before


def test_a_class_that_is_away_for_a_night_comes_back_into_its_splits():
    nights, photos = Nights(), three_classes()
    before = nights.night(*photos)
    nights.night(*(photo for photo in photos if photo.label != "minor"), *many(12, "minor", 500))
    assert before.items() <= nights.night(*photos, *many(12, "minor", 500)).items()


def test_photos_that_are_relabelled_by_a_copy_tonight_and_a_deletion_tomorrow_keep_their_splits():
    nights, photos = Nights(), three_classes()
    before = nights.night(*photos)
    moved, rest = photos[:6], photos[6:]
    copies = [replace(photo, path=f"/p/major/{photo.path}", label="major", content=photo.path) for photo in moved]
    assert not {photo.path for photo in moved} & set(nights.night(*photos, *copies))
    after = nights.night(*rest, *copies)
    assert {photo.path: after[copy.path] for photo, copy in zip(moved, copies, strict=True)}.items() <= before.items()


def test_a_photo_that_resembles_one_that_left_long_ago_joins_its_split():
    nights, photos = Nights(), three_classes()
    before = nights.night(*photos)
    for _ in range(3):
        nights.night(*many(9, "moderate", 700))
    assert nights.night(*map(saved_again, photos)).items() >= before.items()


def test_a_photo_that_resembles_one_side_here_and_one_that_has_left_is_not_used():
    nights = Nights()
    train, test = Photo("/p/a", "minor", 0), Photo("/p/b", "minor", 0xFFFF)
    nights.night(train, test)
    assert "/p/m" not in nights.night(train, Photo("/p/m", "minor", 0x00FF))


def test_a_label_without_a_photo_tonight_gets_its_first_photo_to_train_on_although_others_of_it_have_left():
    nights = Nights()
    nights.night(*many(9))
    nights.night(Photo("/p/other", "major", 3))
    assert nights.night(*many(1, start=50))["/p/minor/50"] == "train"


def test_the_shares_count_the_photos_of_tonight_and_not_those_that_left():
    nights, away, here = Nights(), many(300), many(300, start=1000)
    nights.night(*away)
    assert Counter(nights.night(*here).values()) == Counter(splits(decide(here)).values())


def test_the_first_run_after_a_version_without_the_table_of_splits_notes_every_split_of_silver():
    photos = three_classes()
    before = decide(photos)
    nights = Nights(silver=before.rows)
    nights.night(*photos[:3])
    assert sorted(nights.assigned.to_pylist(), key=str) == sorted(before.rows.select(nights.assigned.column_names).to_pylist(), key=str)
    assert nights.night(*photos) == splits(before)


def test_silver_follows_the_table_of_splits_where_the_two_differ():
    nights, photos = Nights(), three_classes()
    before = nights.night(*photos)
    turned = nights.silver.set_column(
        nights.silver.schema.get_field_index("split"), nights.silver.schema.field("split"), [["test"] * len(photos)]
    )
    planned = decide(photos, turned, assigned=nights.assigned)
    assert splits(planned) == before
    assert planned.changed == sum(split != "test" for split in before.values())


def test_a_plan_that_was_cut_off_after_the_splits_were_noted_is_made_the_same_again():
    photos = three_classes()
    first = decide(photos)
    again = decide(photos, NOTHING, assigned=first.assigned)
    assert (again.fingerprint, again.assigned.num_rows) == (first.fingerprint, 0)


pictures = st.tuples(st.sampled_from([0, 0xFFFF, 0xFFFF_FF00, 0xFFFF_0000_FFFF]), st.sets(st.integers(0, 47), max_size=5)).map(
    lambda drawn: drawn[0] ^ sum(1 << bit for bit in drawn[1])
)
nights_of_photos = st.lists(st.dictionaries(st.integers(0, 24), st.sampled_from(CLASSES), max_size=25), min_size=2, max_size=7)


@settings(max_examples=150, deadline=None)
@given(st.lists(pictures, min_size=25, max_size=25), nights_of_photos)
def test_no_content_and_no_near_duplicate_ever_changes_its_split_whatever_comes_and_goes(hashes, history):
    nights, given = Nights(), {}
    for present in history:
        photos = [Photo(f"/p/{label}/{number}", label, hashes[number], content=f"c{number}") for number, label in present.items()]
        nights.night(*photos)
        for row in nights.silver.to_pylist():
            assert given.setdefault(row["sha256"], row["split"]) == row["split"]
        assert crossing(nights.assigned) == []
        assert given.items() == {row["sha256"]: row["split"] for row in nights.assigned.to_pylist()}.items()
        again = decide(photos, nights.silver, assigned=nights.assigned)
        assert (again.upsert.num_rows, again.remove.num_rows, again.assigned.num_rows) == (0, 0, 0)
