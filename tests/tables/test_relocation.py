"""Photos in a landing folder below a home that is opened at another path: neither gone nor new, on every engine."""

from pathlib import Path

import pyarrow as pa
import pytest

from car_damage.adapters.relocation import move_photos
from car_damage.data.answers.predictions import KEY, PREDICTIONS
from tests import engines
from tests.engines import DELTA_RS
from tests.tables.conftest import BRONZE_TABLE, SILVER_TABLE, Workshop

PREDICTIONS_TABLE = "insurance_uc.gold.predictions"


@pytest.fixture
def at(engine, sessions):
    """at(folder) -> the workshop whose home and landing folder are below this folder."""

    def workshop(folder: Path) -> Workshop:
        landing = folder / "home" / "landing"
        landing.parent.mkdir(parents=True, exist_ok=True)
        return Workshop(folder, None if engine == DELTA_RS else lambda root: engines.tables(engine, root, sessions), landing)

    return workshop


@pytest.fixture
def old(at, tmp_path, photo):
    """Photos of three classes, a duplicate, and a prediction."""
    workshop = at(tmp_path / "old")
    for seed in range(9):
        workshop.put(f"{('minor', 'moderate', 'major')[seed % 3]}/p{seed}.jpg", photo(seed))
    workshop.put("minor/zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf.jpg", photo(0))
    workshop.run()
    row = dict.fromkeys(PREDICTIONS.names) | {
        "path": str(workshop.landing / "minor/p0.jpg"),
        "model_version": 1,
        "label": "minor",
    }
    workshop.platform.tables.merge(PREDICTIONS_TABLE, pa.Table.from_pylist([row], schema=PREDICTIONS), KEY)
    return workshop


def paths(workshop, table):
    return sorted(workshop.platform.tables.read(table, ["path"])[0]["path"].to_pylist())


@pytest.mark.parametrize("new", ["new", "old/home/landing/new"])
def test_after_a_move_nothing_is_gone_and_nothing_new(old, at, tmp_path, new):
    bronze, silver = old.bronze_rows(), old.silver_rows()
    home = (tmp_path / "old" / "home").rename(tmp_path / "aside")
    (tmp_path / new).mkdir(parents=True)
    home.rename(tmp_path / new / "home")
    moved = at(tmp_path / new)
    for _ in range(2):  # the second time as after a kill
        move_photos(moved.platform.tables, moved.platform.settings, tmp_path / "old" / "home")
    for table in (BRONZE_TABLE, SILVER_TABLE, PREDICTIONS_TABLE):
        assert all(path.startswith(f"{moved.landing}/m") for path in paths(moved, table))
    duplicate = f"{moved.landing}/minor/p0.jpg"
    assert [row["detail"] for row in moved.bronze_rows() if row["detail"]] == [duplicate]
    assert [row | {"detail": None} for row in moved.bronze_rows()] == [row | {"detail": None} for row in bronze]
    validated, made = moved.run()
    assert (validated.listed, validated.accepted, validated.judged_again, validated.elsewhere) == (10, 0, 0, 0)
    assert (validated.vanished, validated.replaced, made.added, made.changed, made.removed) == (0, 0, 0, 0, 0)
    assert {name: row | {"path": ""} for name, row in moved.silver_rows().items()} == {
        name: row | {"path": ""} for name, row in silver.items()
    }


def test_photos_elsewhere_stay_where_they_are(old, at, tmp_path):
    before = [paths(old, table) for table in (BRONZE_TABLE, SILVER_TABLE, PREDICTIONS_TABLE)]
    move_photos(old.platform.tables, old.platform.settings, tmp_path / "another" / "home")
    copy = at(tmp_path / "copy")
    copy.tables = lambda _: old.platform.tables
    copy.landing = old.landing  # the copy of a home whose settings still name the original's landing folder
    copy.configure()
    move_photos(copy.platform.tables, copy.platform.settings, tmp_path / "old" / "home")
    assert [paths(old, table) for table in (BRONZE_TABLE, SILVER_TABLE, PREDICTIONS_TABLE)] == before
