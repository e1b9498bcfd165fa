"""The two stages on real Delta tables: what a careful person expects when photos arrive, change and disappear."""

import io
import os
import pickle
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from PIL import Image

from car_damage.adapters.folder import Folder
from car_damage.data.described import comment_of
from car_damage.data.photos import ledger
from car_damage.data.photos import silver as silver_table
from car_damage.data.photos.assignment import ASSIGNED
from car_damage.data.photos.labels import Labeller
from car_damage.data.photos.ledger import BRONZE, KEY
from car_damage.errors import CommitConflict, LandingLost, SettingsError, Terminal, Unavailable
from car_damage.photo.decoder import oversize
from car_damage.photo.limits import Limits
from car_damage.pipeline import SilverRequest, ValidateRequest
from car_damage.ports import File
from car_damage.settings import Labels
from car_damage.stage import silent
from car_damage.stages.silver import ATTEMPTS
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.validate import STAGE as VALIDATE
from car_damage.stages.validate import Verdict
from tests.corpus import heic, picture
from tests.tables.conftest import BRONZE_TABLE, SILVER_TABLE, SPLITS_TABLE, encode, pixels

LABELS = ("minor", "moderate", "major")


@pytest.fixture
def filled(workshop, photo):
    """Twelve photos, four in each class, already ingested."""
    for seed in range(12):
        workshop.put(f"{LABELS[seed % 3]}/p{seed:02}.jpg", photo(seed))
    workshop.run()
    return workshop


def test_the_tables_that_the_stages_make_tell_people_what_they_are(filled):
    for name, schema in ((BRONZE_TABLE, BRONZE), (SILVER_TABLE, silver_table.SILVER), (SPLITS_TABLE, ASSIGNED)):
        made = DeltaTable(filled.platform.tables.uri(name))
        assert {field.name: field.metadata["comment"] for field in made.schema().fields} == {
            field.name: comment_of(field) for field in schema
        }
        assert made.metadata().description == comment_of(schema) != ""


def versions(workshop):
    validated, silver = workshop.run()
    return validated.bronze_version, silver.silver_version, silver.fingerprint


def written(workshop):
    """The versions of both tables."""
    return [workshop.platform.tables.read(table, ["path"])[1] for table in (BRONZE_TABLE, SILVER_TABLE)]


def test_every_file_gets_a_verdict_and_silver_what_training_needs(workshop, photo):
    workshop.put("severe/a.jpg", photo(1))
    workshop.put("minor/b.jpg", photo(2))
    workshop.put("minor/cut.jpg", photo(3)[:400])
    workshop.put("minor/empty.jpg", b"")
    workshop.put("rubbish/c.jpg", photo(4))
    workshop.put("d.jpg", photo(5))
    validated, silver = workshop.run()
    assert (validated.listed, validated.accepted, validated.new) == (6, 2, 6)
    assert validated.rejected == {"empty": 1, "no label": 1, "truncated": 1, "unknown label": 1}
    assert workshop.bronze() == {
        "severe/a.jpg": ("valid", None),
        "minor/b.jpg": ("valid", None),
        "minor/cut.jpg": ("rejected", "truncated"),
        "minor/empty.jpg": ("rejected", "empty"),
        "rubbish/c.jpg": ("rejected", "unknown label"),
        "d.jpg": ("rejected", "no label"),
    }
    rows = workshop.silver_rows()
    assert {name: (row["label"], row["width"], row["height"]) for name, row in rows.items()} == {
        "severe/a.jpg": ("major", 128, 96),
        "minor/b.jpg": ("minor", 128, 96),
    }
    assert (silver.files, silver.rows, silver.added) == (6, 2, 2)
    assert silver.rejected == validated.rejected
    assert silver.classes["major"] == {"train": 1, "validation": 0, "test": 0}


def test_an_empty_folder_makes_two_empty_tables(workshop):
    validated, silver = workshop.run()
    assert (validated.listed, validated.bronze_version) == (0, 0)
    assert (silver.rows, silver.silver_version, silver.rejected) == (0, 0, {})
    assert versions(workshop)[:2] == (0, 0)


def test_a_second_run_writes_nothing_and_tells_the_same(filled):
    first = versions(filled)
    rows = filled.bronze_rows()
    assert versions(filled) == first
    assert filled.bronze_rows() == rows
    validated, silver = filled.run()
    assert (validated.new, validated.replaced, validated.vanished) == (0, 0, 0)
    assert (silver.added, silver.changed, silver.removed, silver.rows) == (0, 0, 0, 12)


def test_the_landing_folder_may_be_spelt_with_or_without_a_slash(filled):
    first = versions(filled)
    filled.configure(landing={"folder": f"{filled.landing}/../landing//"})
    assert versions(filled) == first


def test_time_and_run_of_a_verdict_are_those_of_the_platform(workshop, photo):
    workshop.put("minor/a.jpg", photo(1))
    workshop.validate()
    table, _ = workshop.platform.tables.read("insurance_uc.bronze.raw_images", ["ingest_run", "ingested"])
    assert table.to_pylist() == [{"ingest_run": "flow-run", "ingested": workshop.platform.clock.now()}]


def test_new_photos_join_and_the_others_keep_their_split(filled, photo):
    before = filled.splits()
    for seed in range(20, 30):
        filled.put(f"minor/new{seed}.jpg", photo(seed))
    validated, silver = filled.run()
    assert (validated.accepted, silver.added, silver.rows) == (10, 10, 22)
    assert before.items() <= filled.splits().items()


def test_an_overwritten_photo_is_a_new_version_and_the_old_one_leaves_silver(filled, photo):
    old = filled.silver_rows()["minor/p00.jpg"]["sha256"]
    filled.put("minor/p00.jpg", photo(50), age=-60)
    validated, silver = filled.run()
    assert (validated.accepted, validated.replaced, validated.vanished) == (1, 1, 0)
    assert (silver.added, silver.removed, silver.rows) == (1, 1, 12)
    assert filled.silver_rows()["minor/p00.jpg"]["sha256"] != old
    assert sorted(row["status"] for row in filled.bronze_rows() if row["path"] == "minor/p00.jpg") == ["replaced", "valid"]


def test_a_photo_that_is_moved_to_another_class_changes_its_label_and_keeps_its_split(filled):
    before = filled.splits()["minor/p03.jpg"]
    shutil.move(filled.landing / "minor/p03.jpg", filled.landing / "major/p03.jpg")
    validated, silver = filled.run()
    assert (validated.accepted, validated.vanished) == (1, 1)
    assert (silver.added, silver.changed, silver.removed) == (0, 1, 0)
    assert filled.silver_rows()["major/p03.jpg"]["label"] == "major"
    assert filled.splits()["major/p03.jpg"] == before


def test_a_deleted_photo_is_marked_and_leaves_silver(filled):
    (filled.landing / "minor/p00.jpg").unlink()
    validated, silver = filled.run()
    assert (validated.vanished, silver.removed, silver.rows, silver.files) == (1, 1, 11, 11)
    assert filled.bronze()["minor/p00.jpg"] == ("vanished", None)
    assert "minor/p00.jpg" not in filled.silver_rows()


def test_a_photo_that_comes_back_as_it_was_is_read_again_and_present(filled, photo):
    (filled.landing / "minor/p00.jpg").unlink()
    filled.run()
    filled.put("minor/p00.jpg", photo(0))
    validated, silver = filled.run()
    assert (validated.accepted, silver.added) == (1, 1)
    assert [row["status"] for row in filled.bronze_rows() if row["path"] == "minor/p00.jpg"] == ["valid"]


def test_the_reason_of_a_file_that_vanished_stays(workshop, photo):
    workshop.put("minor/bad.jpg", b"no photo")
    workshop.put("minor/good.jpg", photo(1))
    workshop.run()
    (workshop.landing / "minor/bad.jpg").unlink()
    workshop.run()
    assert workshop.bronze()["minor/bad.jpg"] == ("vanished", "not an image")


def test_a_photo_under_two_labels_is_used_under_neither_until_one_is_gone(filled, photo):
    filled.put("major/same.jpg", photo(0))
    _, silver = filled.run()
    assert silver.rejected == {"conflicting labels": 2}
    assert set(silver.examples) == {"conflicting labels"}
    assert len(silver.examples["conflicting labels"]) == 2
    assert filled.bronze()["minor/p00.jpg"] == filled.bronze()["major/same.jpg"] == ("rejected", "conflicting labels")
    (filled.landing / "minor/p00.jpg").unlink()
    _, silver = filled.run()
    assert (silver.rejected, silver.rows) == ({}, 12)
    assert filled.silver_rows()["major/same.jpg"]["label"] == "major"
    assert filled.bronze()["major/same.jpg"] == ("valid", None)


def test_when_the_first_of_two_equal_photos_vanishes_the_other_takes_its_row(filled, photo):
    filled.put("minor/q00.jpg", photo(0))
    _, silver = filled.run()
    assert (silver.rejected, silver.rows) == ({"duplicate": 1}, 12)
    assert filled.bronze()["minor/q00.jpg"] == ("rejected", "duplicate")
    split = filled.splits()["minor/p00.jpg"]
    (filled.landing / "minor/p00.jpg").unlink()
    _, silver = filled.run()
    assert (silver.added, silver.changed, silver.removed) == (0, 1, 0)
    assert filled.splits()["minor/q00.jpg"] == split
    assert filled.bronze()["minor/q00.jpg"] == ("valid", None)


def test_the_same_photo_saved_again_smaller_shares_the_split(filled, photo):
    for seed in range(12):
        filled.put(f"{LABELS[seed % 3]}/again{seed:02}.jpg", photo(seed, quality=40))
    filled.run()
    splits = filled.splits()
    assert all(splits[f"{LABELS[seed % 3]}/again{seed:02}.jpg"] == splits[f"{LABELS[seed % 3]}/p{seed:02}.jpg"] for seed in range(12))


def test_a_photo_that_resembles_both_sides_of_a_split_is_not_used_also_when_one_side_is_gone(workshop, chain):
    one, middle, other = chain
    workshop.put("minor/one.jpg", one)
    workshop.put("minor/other.jpg", other)
    workshop.run()
    assert set(workshop.splits().values()) == {"train", "test"}
    workshop.put("minor/middle.jpg", middle)
    _, silver = workshop.run()
    assert silver.rejected == {"ambiguous split": 1}
    assert workshop.bronze()["minor/middle.jpg"] == ("rejected", "ambiguous split")
    assert versions(workshop) == versions(workshop)
    (workshop.landing / "minor/one.jpg").unlink()
    workshop.run()
    assert workshop.bronze()["minor/middle.jpg"] == ("rejected", "ambiguous split")
    assert set(workshop.splits()) == {"minor/other.jpg"}


def test_ignored_names_and_a_photo_beside_them(workshop, photo):
    for name in ("minor/_a.jpg", "minor/.b.jpg", "_SUCCESS", ".cache/minor/c.jpg", "minor/d.jpg"):
        workshop.put(name, photo(1))
    validated, _ = workshop.run()
    assert (validated.listed, set(workshop.bronze())) == (1, {"minor/d.jpg"})


def test_a_file_that_cannot_be_read_gets_no_verdict_and_is_taken_up_later(filled, photo):
    broken = filled.landing / "minor/broken.jpg"
    broken.symlink_to(filled.root / "elsewhere.jpg")
    for _ in range(2):
        before = filled.platform.tables.read("insurance_uc.bronze.raw_images", ["path"])[1]
        validated, silver = filled.run()
        assert (validated.unreadable, validated.unreadable_count, validated.new) == ((str(broken),), 1, 0)
        assert validated.bronze_version == before
        assert silver.rows == 12
    (filled.root / "elsewhere.jpg").write_bytes(photo(60))
    validated, silver = filled.run()
    assert (validated.accepted, validated.unreadable_count, silver.added) == (1, 0, 1)


class Flaky(Folder):
    """A folder in which some files cannot be read."""

    def __init__(self, failing):
        self.failing = failing

    def list(self, folder):
        return (File(file.path, file.size, file.modified) for file in super().list(folder))

    def read(self, path):
        if self.failing(path):
            raise Unavailable(f"{path}: input/output error")
        return super().read(path)


def test_of_many_unreadable_files_all_are_counted_and_some_are_named(workshop, photo):
    for number in range(25):
        workshop.put(f"minor/{number:02}.jpg", photo(number))
    workshop.platform.tables._files = Flaky(lambda path: not path.endswith("07.jpg"))
    validated = workshop.validate()
    assert (validated.unreadable_count, len(validated.unreadable), validated.accepted) == (24, 20, 1)


def test_when_most_photos_vanish_nothing_is_written_unless_it_is_allowed(filled):
    before = written(filled)
    for path in list(filled.landing.rglob("*.jpg"))[:7]:
        path.unlink()
    with pytest.raises(LandingLost, match=r"7 of all 12.*allow_removals"):
        filled.run()
    assert written(filled) == before
    validated, silver = filled.run(allow_removals=True)
    assert (validated.vanished, silver.removed, silver.rows) == (7, 7, 5)


def test_when_a_class_is_away_nothing_is_written_unless_it_is_allowed(filled):
    before = written(filled)
    shutil.move(filled.landing / "minor", filled.root / "minor")
    with pytest.raises(LandingLost, match=r"lists 8: 4 of the 4 that are labelled minor; .*allow_removals"):
        filled.run()
    assert written(filled) == before
    assert filled.run(allow_removals=True)[1].removed == 4


def test_when_a_class_is_lost_by_a_change_of_the_settings_silver_is_not_written_unless_it_is_allowed(filled):
    for path in list((filled.landing / "minor").iterdir()):
        filled.put(f"light/{path.name}", path.read_bytes())
        path.unlink()
    filled.configure(labels={"aliases": {"light": "minor"}})
    filled.run(allow_removals=True)
    before = written(filled)
    filled.configure(labels={"aliases": {}})
    with pytest.raises(LandingLost, match=r"from the training photos.* 4 of the 4 that are labelled minor; .*allow_removals"):
        filled.run()
    assert written(filled) == before
    assert filled.run(allow_removals=True)[1].removed == 4


def test_a_photo_gets_a_verdict_again_when_the_limits_change_in_either_direction(workshop, photo):
    for number in range(6):
        workshop.put(f"minor/{number}.jpg", photo(number))
    workshop.put("minor/small.jpg", encode(pixels(7)[:80, :80]))
    assert workshop.run()[1].rows == 7
    workshop.configure(images={"min_side": 90})
    validated, silver = workshop.run()
    assert (validated.new, validated.judged_again, silver.rows) == (0, 7, 6)
    assert workshop.bronze()["minor/small.jpg"] == ("rejected", "too small")
    workshop.configure()
    validated, silver = workshop.run()
    assert (validated.judged_again, silver.rows) == (7, 7)
    assert workshop.run()[0].judged_again == 0


def test_a_photo_that_an_earlier_decoder_could_not_read_is_valid_when_it_is_judged_again(workshop):
    workshop.put("minor/phone.heic", heic(picture()))
    workshop.run()
    tables = workshop.platform.tables
    rows, _ = tables.read(BRONZE_TABLE, BRONZE.names)
    before = {"status": "rejected", "reason": "unsupported format", "judged_under": '{"recipe": 2}', "phash": None}
    for name, value in before.items():
        rows = rows.set_column(BRONZE.get_field_index(name), BRONZE.field(name), pa.array([value], BRONZE.field(name).type))
    tables.merge(BRONZE_TABLE, rows.cast(BRONZE), KEY)
    validated, silver = workshop.run()
    assert (validated.judged_again, silver.rows) == (1, 1)
    assert workshop.bronze()["minor/phone.heic"] == ("valid", None)


def test_a_table_of_the_version_before_gets_the_column_and_each_photo_a_verdict(workshop, photo):
    for number in range(3):
        workshop.put(f"minor/{number}.jpg", photo(number))
    workshop.run()
    columns = [name for name in BRONZE.names if name != "judged_under"]
    tables = workshop.platform.tables
    rows, _ = tables.read(BRONZE_TABLE, columns)
    shutil.rmtree(Path(tables.uri(BRONZE_TABLE)))
    tables.merge(BRONZE_TABLE, rows.cast(pa.schema([BRONZE.field(name) for name in columns])), KEY)
    workshop.put("minor/new.jpg", photo(9))
    validated, silver = workshop.run()
    assert (validated.new, validated.judged_again, silver.rows) == (1, 3, 4)
    assert tables.read(BRONZE_TABLE, ["judged_under"])[0]["judged_under"].null_count == 0


def test_a_landing_folder_that_is_gone_empties_nothing(filled):
    shutil.move(filled.landing, filled.root / "away")
    with pytest.raises(SettingsError, match=r"landing\.folder"):
        filled.validate()
    assert len(filled.silver_rows()) == 12


def test_photos_of_another_landing_folder_stay(filled, photo):
    other = filled.root / "other"
    (other / "minor").mkdir(parents=True)
    (other / "minor/x.jpg").write_bytes(photo(70))
    before = filled.silver_rows()
    filled.configure(landing={"folder": str(other)})
    validated, silver = filled.run()
    assert (validated.listed, validated.vanished, silver.files, silver.rows) == (1, 0, 1, 13)
    assert before.items() <= filled.silver_rows().items()
    assert validated.elsewhere == 12


def test_photos_of_another_landing_folder_go_when_a_person_says_so(filled, photo):
    other = filled.root / "other"
    (other / "minor").mkdir(parents=True)
    (other / "minor/x.jpg").write_bytes(photo(70))
    filled.configure(landing={"folder": str(other)})
    validated, silver = filled.run(retire_other_folders=True)
    assert (validated.vanished, validated.elsewhere, silver.rows) == (12, 0, 1)
    assert filled.run()[1].rows == 1


def test_retiring_other_folders_allows_no_class_of_this_one_to_go(filled):
    for path in list((filled.landing / "minor").iterdir()):
        filled.put(f"light/{path.name}", path.read_bytes())
        path.unlink()
    filled.configure(labels={"aliases": {"light": "minor"}})
    filled.run(allow_removals=True)
    filled.configure(labels={"aliases": {}})
    with pytest.raises(LandingLost, match="from the training photos"):
        filled.run(retire_other_folders=True)


def test_photos_of_another_landing_folder_whose_class_is_none_any_more_are_not_used(filled):
    other = filled.root / "nearby"
    other.mkdir()
    classes = {"classes": ("moderate", "major"), "aliases": {}}
    filled.configure(landing={"folder": str(other)}, labels=classes, promotion={"recall_floor": {}, "costs": {}})
    _, silver = filled.run()
    assert {row["label"] for row in filled.silver_rows().values()} == {"moderate", "major"}
    assert silver.removed == 4


def test_a_photo_in_both_landing_folders_is_read_from_the_present_one(filled):
    other = filled.root / "nearby"
    shutil.copytree(filled.landing, other)
    filled.configure(landing={"folder": str(other)})
    filled.run()
    assert {Path(row["path"]).is_relative_to(other) for row in filled.silver_rows().values()} == {True}


def test_a_file_above_the_limit_is_rejected_without_being_read(workshop):
    workshop.configure(images={"max_bytes": 1 << 16})
    large = workshop.put("minor/large.jpg", b"x" * ((1 << 16) + 1))
    workshop.platform.tables._files = Flaky(lambda path: path == str(large))
    validated = workshop.validate()
    assert (validated.unreadable_count, validated.rejected) == (0, {"too many bytes": 1})
    assert workshop.bronze_rows()[0]["sha256"] is None


def test_new_label_settings_reach_photos_that_are_known(filled):
    before = filled.splits()
    filled.configure(labels={"aliases": {"minor": "major"}, "classes": ("moderate", "major")}, promotion={"recall_floor": {}, "costs": {}})
    validated, silver = filled.run(allow_removals=True)
    assert (validated.new, silver.changed, silver.added) == (0, 4, 0)
    assert filled.splits() == before
    filled.configure(labels={"aliases": {}, "classes": ("moderate", "major")}, promotion={"recall_floor": {}, "costs": {}})
    _, silver = filled.run(allow_removals=True)
    assert (silver.removed, silver.rejected) == (4, {"unknown label": 4})
    filled.configure()
    _, silver = filled.run()
    assert (silver.added, silver.rejected, silver.rows) == (4, {}, 12)


def test_labels_come_from_a_csv_table_and_follow_it(filled):
    table = filled.root / "labels.csv"
    table.write_text("path,label\nminor/p00.jpg,severe\nmajor/p02.jpg,nonsense\n")
    filled.configure(labels={"source": "table", "table": str(table)})
    _, silver = filled.run(allow_removals=True)
    assert {name: row["label"] for name, row in filled.silver_rows().items()} == {"minor/p00.jpg": "major"}
    assert silver.rejected == {"no label": 10, "unknown label": 1}


def test_labels_come_from_a_delta_table(filled):
    import pyarrow as pa

    where = str(filled.root / "labels")
    write_deltalake(where, pa.table({"path": ["minor/p00.jpg", "minor/p03.jpg"], "label": ["moderate", None]}))
    filled.configure(labels={"source": "table", "table": where})
    filled.run(allow_removals=True)
    assert {name: row["label"] for name, row in filled.silver_rows().items()} == {"minor/p00.jpg": "moderate"}


def test_a_table_of_labels_that_is_missing_or_contradicts_itself_is_an_error(filled):
    import pyarrow as pa

    where = str(filled.root / "labels")
    filled.configure(labels={"source": "table", "table": where})
    with pytest.raises(SettingsError, match=r"labels\.table"):
        filled.silver()
    write_deltalake(where, pa.table({"path": ["minor/p00.jpg"] * 2, "label": ["minor", "major"]}))
    with pytest.raises(SettingsError, match=r"minor/p00\.jpg"):
        filled.silver()


def test_a_name_that_is_not_utf8_is_taken_in_like_any_other(workshop, photo):
    (workshop.landing / "minor").mkdir()
    (workshop.landing / "minor" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(photo(1))
    validated, silver = workshop.run()
    assert (validated.accepted, silver.rows, list(workshop.silver_rows())) == (1, 1, ["minor/caf\\xe9.jpg"])


def test_silver_before_validate_says_so(workshop):
    with pytest.raises(Terminal, match="run validate first"):
        workshop.silver()


class Wrapped:
    """Tables that call a function before or after each merge."""

    def __init__(self, tables, before=None, after=None):
        self.tables, self.before, self.after = tables, before, after

    def __getattr__(self, name):
        return getattr(self.tables, name)

    def merge(self, table, *args, **kwargs):
        if self.before:
            self.before(table)
        version = self.tables.merge(table, *args, **kwargs)
        if self.after:
            self.after(table)
        return version


class Killed(BaseException):
    """Stands for the end of the process."""


def kill(_table):
    raise Killed


@pytest.mark.parametrize("at", [BRONZE_TABLE, SPLITS_TABLE])
def test_a_kill_after_bronze_or_the_splits_are_written_is_mended_by_the_next_run(filled, photo, at):
    def kill_at(table):
        if table == at:
            raise Killed

    filled.put("minor/q00.jpg", photo(0))
    filled.put("minor/new.jpg", photo(30))
    version = filled.validate().bronze_version
    tables = filled.platform.tables
    filled.platform.tables = Wrapped(tables, after=kill_at)
    with pytest.raises(Killed):
        filled.silver(version)
    filled.platform.tables = tables
    assert filled.bronze()["minor/q00.jpg"] == ("rejected", "duplicate")
    assert "minor/new.jpg" not in filled.silver_rows()
    noted = filled.assigned()
    assert len(noted) == (12 if at == BRONZE_TABLE else 13)
    validated, silver = filled.run()
    assert (validated.new, silver.added, silver.rows, silver.rejected) == (0, 1, 13, {"duplicate": 1})
    assert noted.items() <= filled.assigned().items()
    assert filled.assigned() == {row["sha256"]: row["split"] for row in filled.silver_rows().values()}
    assert versions(filled) == (validated.bronze_version, silver.silver_version, silver.fingerprint)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_commit_of_validate_is_mended_by_the_next_run(filled, photo, moment):
    filled.put("minor/new.jpg", photo(30))
    (filled.landing / "minor/p00.jpg").unlink()
    tables = filled.platform.tables
    filled.platform.tables = Wrapped(tables, **{moment: kill})
    with pytest.raises(Killed):
        filled.validate()
    filled.platform.tables = tables
    filled.run()
    assert filled.bronze()["minor/p00.jpg"] == ("vanished", None)
    assert len(filled.bronze_rows()) == 13
    assert set(filled.silver_rows()) >= {"minor/new.jpg"}
    assert len(filled.silver_rows()) == 12


def test_a_plan_that_comes_late_does_not_move_a_photo_to_another_split(filled, photo):
    """Spark detects another writer's last-moment commit only after it has committed itself."""

    class Late(Wrapped):
        others = None

        def merge(self, table, rows, key, *, base=None, **kwargs):
            if table != SPLITS_TABLE or self.others:
                return self.tables.merge(table, rows, key, base=base, **kwargs)
            others = [{"train": "test"}.get(split, "train") for split in rows["split"].to_pylist()]
            self.others = dict(zip(rows["sha256"].to_pylist(), others, strict=True))
            self.tables.merge(table, rows.set_column(rows.column_names.index("split"), "split", pa.array(others)), key)
            self.tables.merge(table, rows, key, **kwargs)
            raise CommitConflict(f"{table} is at version {base + 2}")

    filled.put("minor/new.jpg", photo(30))
    late = filled.platform.tables = Late(filled.platform.tables)
    filled.run()
    row = filled.silver_rows()["minor/new.jpg"]
    assert row["split"] == late.others[row["sha256"]]


def test_silver_is_planned_again_when_another_writer_comes_first(filled, photo):
    filled.put("minor/new.jpg", photo(30))
    version = filled.validate().bronze_version
    tables, beaten = filled.platform.tables, []

    def other_writer(table):
        if not beaten:
            beaten.append(table)
            filled.put("minor/newer.jpg", photo(31))
            filled.platform.tables = tables
            filled.run()

    filled.platform.tables = Wrapped(tables, before=other_writer)
    silver = filled.silver(version)
    assert len(filled.platform.clock.slept) == 1
    assert (silver.rows, silver.added) == (14, 0)
    assert {"minor/new.jpg", "minor/newer.jpg"} <= set(filled.silver_rows())


def test_silver_gives_up_after_a_limited_number_of_plans(filled, photo):
    filled.put("minor/new.jpg", photo(30))
    version = filled.validate().bronze_version

    def conflict(table):
        raise CommitConflict(f"{table} is busy")

    filled.platform.tables = Wrapped(filled.platform.tables, before=conflict)
    with pytest.raises(CommitConflict):
        filled.silver(version)
    assert len(filled.platform.clock.slept) == ATTEMPTS - 1


def test_two_whole_runs_at_once_end_with_every_photo_once(workshop, photo):
    for seed in range(30):
        workshop.put(f"{LABELS[seed % 3]}/p{seed:02}.jpg", photo(seed))
    workshop.put("minor/bad.jpg", b"no photo")
    barrier, failed = threading.Barrier(2), []

    def run():
        try:
            barrier.wait()
            workshop.run()
        except Exception as error:  # noqa: BLE001 - shown below
            failed.append(error)

    runs = [threading.Thread(target=run) for _ in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join(120)
    assert failed == []
    assert len(workshop.bronze_rows()) == len(workshop.bronze()) == 31
    assert len(workshop.silver_rows()) == 30
    settled = versions(workshop)
    assert versions(workshop) == settled


def test_progress_is_told_to_the_last_file(workshop, photo):
    from car_damage.pipeline import ValidateRequest
    from car_damage.stages.validate import STAGE as VALIDATE

    for seed in range(5):
        workshop.put(f"minor/{seed}.jpg", photo(seed))
    told = []
    VALIDATE.work(ValidateRequest("flow-run"), workshop.platform, lambda step, done, total, message="": told.append((step, done, total)))
    assert told == [("validate", done, 5) for done in range(1, 6)]


def test_the_work_on_a_file_can_be_sent_to_a_cluster(photo):
    verdict = pickle.loads(pickle.dumps(Verdict(Limits(), Labeller(Labels(), "/p"), "/home/corrections/")))  # noqa: S301 - our own bytes
    row = verdict("/p/severe/a.jpg", photo(1))
    assert (row["status"], row["label"], row["width"], row["height"]) == ("valid", "major", 128, 96)
    row = verdict("/home/corrections/photos/a.jpg", photo(1))
    assert (row["status"], row["label"], row["reason"]) == ("valid", None, None)
    assert verdict.row("/p/minor/b.jpg", oversize(10, Limits(max_bytes=5)))["reason"] == "too many bytes"


def test_a_photo_that_cannot_be_used_says_so_before_its_missing_label(workshop):
    out = io.BytesIO()
    Image.new("RGB", (10, 10)).save(out, "PNG")
    workshop.put("nowhere/small.png", out.getvalue())
    workshop.run()
    assert workshop.bronze() == {"nowhere/small.png": ("rejected", "too small")}
    assert ledger.BRONZE.field("reason").nullable


def test_a_report_names_the_three_latest_files_of_each_reason_and_what_is_the_matter_with_them(workshop, photo):
    workshop.put("minor/a.jpg", photo(1))
    workshop.put("minor/b.jpg", photo(1), age=5)
    workshop.put("minor/c.jpg", photo(2))
    workshop.put("major/c.jpg", photo(2))
    for age, name in enumerate("wxyz"):
        workshop.put(f"minor/{name}.jpg", b"", age=-age)
    _, silver = workshop.run()
    named = {reason: [workshop.name(path) for path in paths] for reason, paths in silver.examples.items()}
    assert named == {
        "conflicting labels": ["major/c.jpg", "minor/c.jpg"],
        "duplicate": ["minor/b.jpg"],
        "empty": ["minor/z.jpg", "minor/y.jpg", "minor/x.jpg"],
    }
    details = {workshop.name(path): detail for path, detail in silver.details.items()}
    assert details == {
        "minor/b.jpg": str(workshop.landing / "minor/a.jpg"),
        "minor/c.jpg": "major, minor",
        "major/c.jpg": "major, minor",
        **dict.fromkeys(("minor/x.jpg", "minor/y.jpg", "minor/z.jpg"), "0 bytes"),
    }
    again = workshop.silver()
    assert (again.examples, again.details) == (silver.examples, silver.details)


def test_a_report_tells_which_rejects_this_run_saw_first(workshop, photo):
    workshop.put("minor/a.jpg", photo(1))
    workshop.put("minor/old.jpg", b"")
    workshop.run()
    workshop.put("minor/new.jpg", b"")
    workshop.put("minor/again.jpg", photo(1))
    validated = VALIDATE.work(ValidateRequest("next"), workshop.platform, silent)
    silver = SILVER.work(SilverRequest("next", validated.bronze_version), workshop.platform, silent)
    assert silver.rejected == {"duplicate": 1, "empty": 2}
    # Of two equal files, silver uses the one with the smaller path: `a.jpg` stays, and `again.jpg` is the duplicate.
    assert silver.rejected_now == {"duplicate": 1, "empty": 1}


def test_files_that_could_not_be_read_are_told_in_the_log(workshop, photo, caplog):
    workshop.put("minor/a.jpg", photo(1))
    (workshop.landing / "minor/gone.jpg").symlink_to(workshop.root / "nowhere")
    workshop.run()
    assert "1 of 2 new files could not be read" in caplog.text
    assert "minor/gone.jpg does not exist" in caplog.text
