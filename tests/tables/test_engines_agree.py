"""delta-rs alone, Spark alone, and all engines in turn produce the same reports and the same tables, row by row."""

import shutil
from dataclasses import asdict

import pytest

from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.data.photos import ledger
from car_damage.data.photos.assignment import ASSIGNED
from car_damage.data.photos.silver import SILVER as SILVER_ROW
from tests import engines
from tests.engines import DELTA_RS, ENGINES, SPARK
from tests.tables.conftest import BRONZE_TABLE, SILVER_TABLE, SPLITS_TABLE, Workshop


@pytest.fixture(scope="module")
def steps(photo):
    """Three steps, each of which changes the landing folder."""

    def first(workshop):
        for seed in range(9):
            workshop.put(f"{('minor', 'moderate', 'severe')[seed % 3]}/p{seed}.jpg", photo(seed))
        workshop.put("minor/again.jpg", photo(0))
        workshop.put("minor/smaller.jpg", photo(1, 60))
        workshop.put("minor/cut.jpg", photo(20)[:400])
        workshop.put("minor/empty.jpg", b"")
        workshop.put("minor/text.jpg", b"no photo at all")
        workshop.put("rubbish/x.jpg", photo(21))
        workshop.put("x.jpg", photo(22))
        workshop.put("minor/zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf `quoted`.jpg", photo(23))

    def changes(workshop):
        workshop.put("minor/p0.jpg", photo(30), age=-10)
        (workshop.landing / "moderate/p1.jpg").unlink()
        shutil.move(workshop.landing / "severe/p2.jpg", workshop.landing / "minor/p2.jpg")
        workshop.put("moderate/both.jpg", photo(3))
        workshop.put("minor/cut.jpg", photo(20), age=-10)

    def back(workshop):
        workshop.put("moderate/p1.jpg", photo(1))
        (workshop.landing / "moderate/both.jpg").unlink()

    return first, changes, back


def rows(workshop):
    """All rows of the three tables, sorted by key. One engine reads what all have written; how the others read is in test_tables.py."""
    tables = DeltaRs(workshop.platform.settings.home / "tables", workshop.platform.files, workshop.platform.settings.images)
    bronze, _ = tables.read(BRONZE_TABLE, ledger.BRONZE.names)
    silver, _ = tables.read(SILVER_TABLE, SILVER_ROW.names)
    splits, _ = tables.read(SPLITS_TABLE, ASSIGNED.names)
    keyed = ((bronze, ledger.KEY), (silver, ["sha256"]), (splits, ["sha256"]))
    return [table.sort_by([(name, "ascending") for name in key]).to_pylist() for table, key in keyed]


def plain(reports):
    """The reports of validate and silver as one dictionary, so that a failure names the field that differs."""
    validated, silver = reports
    return asdict(validated) | asdict(silver)


def test_every_engine_tells_the_same_and_continues_what_another_wrote(tmp_path, sessions, steps):
    landing = tmp_path / "landing"

    def workshop(home, engine):
        root = tmp_path / home
        root.mkdir(exist_ok=True)
        return Workshop(root, lambda tables: engines.tables(engine, tables, sessions), landing)

    alone = {engine: workshop(engine, engine) for engine in (DELTA_RS, SPARK)}
    for step, turn in zip(steps, ENGINES, strict=True):
        step(alone[DELTA_RS])
        reports = {engine: one.run() for engine, one in alone.items()}
        told = {engine: rows(one) for engine, one in alone.items()}
        in_turn = workshop("in turn", turn)
        reports["in turn"], told["in turn"] = in_turn.run(), rows(in_turn)
        for name, report in reports.items():
            assert plain(report) == plain(reports[DELTA_RS]), (step.__name__, name)
            assert told[name] == told[DELTA_RS], (step.__name__, name)
    assert all(len(table) > 8 for table in told[DELTA_RS])
    validated, silver = workshop("in turn", DELTA_RS).run()
    assert (validated.new, silver.added, silver.changed, silver.removed) == (0, 0, 0, 0)
    assert (validated.bronze_version, silver.silver_version) == (reports["in turn"][1].bronze_version, reports["in turn"][1].silver_version)
