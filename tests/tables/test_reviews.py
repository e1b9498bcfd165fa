"""What people say about photos, on real Delta tables: from the file of a word to the label in silver."""

import shutil
from datetime import UTC, datetime

import pytest

from car_damage.adapters.relocation import move_photos
from car_damage.data.people import reviews
from car_damage.data.people.reviews import Word
from car_damage.errors import LandingLost, PhotoChanged
from car_damage.stages.photos.verdicts import leave_out
from tests.fakes import sha256
from tests.tables.conftest import SILVER_TABLE

LABELS = ("minor", "moderate", "major")
REVIEWS_TABLE = "insurance_uc.silver.reviews"


@pytest.fixture
def filled(workshop, photo):
    """Twelve photos, four in each class, already ingested."""
    for seed in range(12):
        workshop.put(f"{LABELS[seed % 3]}/p{seed:02}.jpg", photo(seed))
    workshop.run()
    return workshop


def say(workshop, data, label, by="Ann", *, minute=0, photo=None):
    settings = workshop.platform.settings
    word = Word(sha256(data), label, by, datetime(2026, 6, 1, 12, minute, tzinfo=UTC), 3, "minor")
    reviews.say(workshop.platform.files, settings.answers.corrections, word, f"id{minute}", photo=photo, suffix=".jpg")
    return word


def words(workshop):
    return workshop.platform.tables.read(REVIEWS_TABLE, reviews.REVIEWS.names)[0].sort_by("said").to_pylist()


def labels(workshop):
    """sha256 -> label and where it comes from."""
    rows, _ = workshop.platform.tables.read(SILVER_TABLE, ["sha256", "label", "label_from"])
    return {row["sha256"]: (row["label"], row["label_from"]) for row in rows.to_pylist()}


def test_a_word_settles_what_the_folders_say_and_taking_it_back_unsettles_it(filled, photo):
    """One story, because each run costs a Spark run too."""
    told, new = photo(0), photo(40)
    filled.put("major/same as p00.jpg", told)
    splits, (_, before) = filled.splits(), filled.run()
    assert sha256(told) not in labels(filled), "two folders, two labels"

    said = say(filled, told, "moderate")
    say(filled, new, "major", photo=new)
    say(filled, photo(1), "not_a_car")
    say(filled, photo(2), "cannot_tell")
    validated, silver = filled.run()
    assert (validated.words, validated.listed, validated.accepted) == (4, 13, 1)
    assert words(filled)[0] | {"word": ""} == {
        "word": "",
        "sha256": said.sha256,
        "label": "moderate",
        "by": "Ann",
        "said": said.said,
        "version": 3,
        "answered": "minor",
    }
    assert labels(filled)[sha256(told)] == ("moderate", "review")
    assert labels(filled)[sha256(new)] == ("major", "review")
    assert labels(filled)[sha256(photo(3))] == ("minor", None)
    assert silver.rejected == {"cannot tell": 1, "duplicate": 1, "not a car": 1}
    assert silver.fingerprint != before.fingerprint
    bronze = {row["sha256"]: row for row in filled.bronze_rows()}
    assert (bronze[sha256(photo(1))]["label"], bronze[sha256(photo(1))]["reason"]) == ("moderate", "not a car")
    assert (bronze[sha256(new)]["label"], bronze[sha256(new)]["status"]) == (None, "valid")
    assert {row["label"] for row in filled.bronze_rows() if row["sha256"] == sha256(told)} == {"minor", "major"}

    again, same = filled.run()
    assert (again.words, again.new, same.fingerprint, same.silver_version) == (0, 0, silver.fingerprint, silver.silver_version)

    say(filled, photo(1), "undone", minute=5)
    say(filled, told, "minor", by="Bob", minute=6)
    filled.run()
    assert labels(filled)[sha256(photo(1))] == ("moderate", None)
    assert labels(filled)[sha256(told)] == ("minor", "review")
    kept = {name: split for name, split in filled.splits().items() if name in splits}
    assert all(splits[name] == split for name, split in kept.items()), "a split is for ever"


def test_words_about_most_photos_of_a_class_trip_no_guard(filled, photo):
    for seed in range(0, 12, 3):
        say(filled, photo(seed), "major" if seed else "not_a_car")
    _, silver = filled.run()
    assert sum(silver.classes["minor"].values()) == 0
    assert sum(silver.classes["major"].values()) == 7


def test_a_file_that_is_no_word_is_told_and_passed_over(filled, photo, caplog):
    say(filled, photo(0), "major")
    folder = filled.root / "home" / "corrections" / "words"
    (folder / f"{sha256(photo(1))}-20260601T120000.000000Z-cut.json").write_bytes(b'{"sha256": ')
    (folder / "note.txt").write_text("ask Ann")
    validated, _ = filled.run()
    assert validated.words == 1
    for name in ("cut.json", "note.txt"):
        assert f"{name} is not taken up" in caplog.text


def test_a_corrected_photo_that_cannot_be_read_is_told_without_its_hash_which_is_its_name(filled, photo, caplog):
    photos = filled.root / "home" / "corrections" / "photos"
    photos.mkdir(parents=True)
    (photos / f"{sha256(photo(40))}.jpg").symlink_to(filled.root / "nowhere")
    validated, _ = filled.run()
    assert (validated.unreadable, validated.unreadable_count) == (("a corrected photo",), 1)
    leave_out({str(photos / f"{sha256(photo(40))}.jpg"): PhotoChanged(f"{photos}/{sha256(photo(40))}.jpg has changed")}, filled.platform)
    assert "a corrected photo has changed" in caplog.text
    assert sha256(photo(40)) not in caplog.text


def test_a_corrections_folder_that_is_away_stops_the_run_and_one_photo_less_does_not(filled, photo):
    for seed in (40, 41):
        say(filled, photo(seed), "major", minute=seed, photo=photo(seed))
    filled.run()
    photos = filled.root / "home" / "corrections" / "photos"
    assert len(labels(filled)) == 14
    (photos / f"{sha256(photo(40))}.jpg").unlink()
    validated, _ = filled.run()
    assert (validated.vanished, len(labels(filled))) == (1, 13)
    shutil.move(filled.root / "home" / "corrections", filled.root / "elsewhere")
    with pytest.raises(LandingLost, match="Mount it"):
        filled.validate()
    filled.run(allow_removals=True)
    assert len(labels(filled)) == 12
    assert len(words(filled)) == 2, "what was said stays known"


def test_retiring_other_folders_and_moving_the_landing_folder_leave_corrections(filled, photo):
    say(filled, photo(40), "major", photo=photo(40))
    filled.run()
    filled.landing.rename(filled.root / "other")
    filled.landing = filled.root / "other"
    filled.configure()
    validated, _ = filled.run(retire_other_folders=True)
    assert (validated.vanished, validated.elsewhere, len(labels(filled))) == (12, 0, 13)


def test_after_a_move_of_the_home_corrections_are_neither_gone_nor_new(filled, photo):
    say(filled, photo(40), "major", photo=photo(40))
    _, before = filled.run()
    old, filled.root = filled.root / "home", filled.root / "moved"
    filled.root.mkdir()
    shutil.move(old, filled.root / "home")
    filled.configure()
    move_photos(filled.platform.tables, filled.platform.settings, old)
    validated, silver = filled.run()
    assert (validated.accepted, validated.vanished, validated.words, validated.elsewhere) == (0, 0, 0, 0)
    assert (silver.fingerprint, silver.changed) == (before.fingerprint, 0)
