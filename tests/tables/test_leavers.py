"""Photos that leave and come back keep their split, over several nights of the two stages on real tables."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from car_damage.data.photos import ledger
from car_damage.data.photos.silver import SILVER as SILVER_ROW
from tests.tables.conftest import BRONZE_TABLE, SILVER_TABLE, SPLITS_TABLE

LABELS = ("minor", "moderate", "major")
BEFORE = Path(__file__).with_name("before") / "tables.json"
"""The rows of bronze and silver as commit 14f7dae wrote them, which had no table of splits. LANDING stands for the landing folder."""


@pytest.fixture
def filled(workshop, photo):
    """Eighteen photos, six in each class, already ingested."""
    for seed in range(18):
        workshop.put(f"{LABELS[seed % 3]}/p{seed:02}.jpg", photo(seed))
    workshop.run()
    return workshop


def test_photos_that_are_all_saved_again_in_place_keep_their_splits(filled, photo):
    before = filled.splits()
    for seed in range(18):
        filled.put(f"{LABELS[seed % 3]}/p{seed:02}.jpg", photo(seed, quality=40), age=-60)
    _, silver = filled.run(allow_removals=True)
    assert (silver.added, silver.removed) == (18, 18)
    assert filled.splits() == before


def test_a_folder_that_is_away_for_a_night_comes_back_into_its_splits(filled, photo):
    before = filled.splits()
    shutil.move(filled.landing / "minor", filled.root / "away")
    for seed in range(30, 34):
        filled.put(f"light/q{seed}.jpg", photo(seed))
    filled.run(allow_removals=True)
    assert not {name for name in filled.splits() if name.startswith("minor/")}
    shutil.move(filled.root / "away", filled.landing / "minor")
    filled.run()
    assert before.items() <= filled.splits().items()


def test_an_alias_that_is_away_for_a_night_changes_no_split(filled, photo):
    filled.configure(labels={"aliases": {"light": "minor"}})
    for seed in range(30, 36):
        filled.put(f"light/q{seed}.jpg", photo(seed))
    filled.run()
    before = filled.splits()
    filled.configure(labels={"aliases": {}})
    for seed in range(40, 46):
        filled.put(f"minor/r{seed}.jpg", photo(seed))
    filled.run(allow_removals=True)
    assert not {name for name in filled.splits() if name.startswith("light/")}
    filled.configure(labels={"aliases": {"light": "minor"}})
    filled.run()
    assert before.items() <= filled.splits().items()


def test_photos_that_are_copied_to_another_class_tonight_and_deleted_tomorrow_keep_their_splits(filled):
    before = filled.splits()
    names = [f"p{seed:02}.jpg" for seed in range(0, 18, 3)]
    for name in names:
        shutil.copy2(filled.landing / "minor" / name, filled.landing / "major" / name)
    _, silver = filled.run(allow_removals=True)
    assert silver.rejected == {"conflicting labels": 12}
    for name in names:
        (filled.landing / "minor" / name).unlink()
    filled.run(allow_removals=True)
    after = filled.splits()
    assert {f"minor/{name}": after[f"major/{name}"] for name in names}.items() <= before.items()


def test_what_has_left_is_remembered_and_nothing_is_ever_forgotten(filled, photo):
    noted = filled.assigned()
    for path in (filled.landing / "major").iterdir():
        path.unlink()
    filled.put("minor/new.jpg", photo(50))
    filled.run(allow_removals=True)
    assert len(filled.silver_rows()) == 13
    assert noted.items() < filled.assigned().items()


def test_a_run_with_nothing_new_writes_no_row_into_the_table_of_splits(filled):
    version = filled.platform.tables.read(SPLITS_TABLE, ["sha256"])[1]
    filled.run()
    assert filled.platform.tables.read(SPLITS_TABLE, ["sha256"])[1] == version


@pytest.fixture
def tables_of_before(workshop):
    """A home as the version before left it."""
    given = json.loads(BEFORE.read_text().replace("LANDING", str(workshop.landing)))
    for table, key, schema in ((BRONZE_TABLE, ledger.KEY, ledger.BRONZE), (SILVER_TABLE, ["sha256"], SILVER_ROW)):
        names = [field["name"] for field in given[table]["schema"]["fields"]]
        kept = pa.schema([schema.field(name) for name in names])
        rows = [
            {name: datetime.fromisoformat(value) if name in {"modified", "ingested"} else value for name, value in row.items()}
            for row in given[table]["rows"]
        ]
        workshop.platform.tables.merge(table, pa.Table.from_pylist(rows, schema=kept), key)
    return workshop


def test_the_first_run_on_tables_of_the_version_before_keeps_their_splits_and_notes_them(tables_of_before):
    before = tables_of_before.silver_rows()
    tables_of_before.silver()
    assert tables_of_before.silver_rows() == before
    assert tables_of_before.assigned() == {row["sha256"]: row["split"] for row in before.values()}


def test_photos_that_left_before_the_first_run_of_this_version_are_noted_too(tables_of_before):
    before = tables_of_before.silver_rows()
    tables = tables_of_before.platform.tables
    bronze, _ = tables.read(BRONZE_TABLE, [*ledger.KEY, "status"])
    gone = pa.Table.from_pylist(
        [row | {"status": ledger.VANISHED} for row in bronze.to_pylist() if row["path"].endswith("/severe/p2.jpg")], schema=bronze.schema
    )
    tables.merge(BRONZE_TABLE, gone, ledger.KEY)
    report = tables_of_before.silver()
    assert report.removed == 1
    assert tables_of_before.assigned() == {row["sha256"]: row["split"] for row in before.values()}
