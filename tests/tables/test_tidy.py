"""Tidying a table: what goes, what stays readable, and what a kill leaves. See `tests/tables/test_tables.py` for all engines."""

import os
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.adapters.tables.log import Log
from car_damage.errors import Unavailable
from car_damage.ports import Space
from car_damage.settings import Images
from tests.tables.things import NAME, content, rows


@pytest.fixture
def tables(tmp_path):
    return DeltaRs(tmp_path, Folder(), Images(), sleep=lambda _: None)


def many(start, number):
    return rows(**{f"/landing/photos/minor/{key:09d}.jpg": key for key in range(start, start + number)})


def night(tables, number):
    """A night of a large table: some rows are new, and some change. Returns the version."""
    tables.merge(NAME, many(5_000 + 10 * number, 10), ["key"])
    return tables.merge(NAME, many(7 * number, 3), ["key"])


def folder(tables):
    return Path(tables.uri(NAME))


def on_disk(tables):
    """Bytes of the table's folder, with its log."""
    return sum(path.stat().st_size for path in folder(tables).rglob("*") if path.is_file())


def live(tables):
    """Bytes of the files of the latest version."""
    return sum(DeltaTable(folder(tables)).get_add_actions().column("size_bytes").to_pylist())


def nights(tables, number, needed=()):
    tables.merge(NAME, many(0, 5_000), ["key"])
    for one in range(number):
        night(tables, one)
        tables.tidy(NAME, 0, needed)


def test_after_forty_nights_a_table_takes_at_most_three_times_its_live_data(tables):
    nights(tables, 40)
    assert on_disk(tables) <= 3 * live(tables)
    assert len(list((folder(tables) / "_delta_log").iterdir())) < 40
    assert tables.read(NAME, ["key"])[0].num_rows == 5_400


def test_a_needed_version_stays_readable_after_many_nights_and_costs_only_its_own_files(tables):
    nights(tables, 1)
    needed = night(tables, 1)
    before = tables.read(NAME, ["key", "value"], needed)[0].sort_by("key")
    for one in range(2, 40):
        night(tables, one)
        tables.tidy(NAME, 0, [needed])
    assert tables.read(NAME, ["key", "value"], needed)[0].sort_by("key") == before
    assert on_disk(tables) <= 4 * live(tables)
    for one in range(40, 60):  # it is not needed any more
        night(tables, one)
        tables.tidy(NAME, 0, [])
    assert not Log(folder(tables)).holds(needed)
    assert on_disk(tables) <= 3 * live(tables)


def test_what_another_process_may_be_reading_stays_until_the_next_call(tables):
    nights(tables, 8)
    latest = night(tables, 9)
    there = tables.read(NAME, ["key"], latest)[0].num_rows
    tables.tidy(NAME, 0, [])
    assert tables.read(NAME, ["key"], latest)[0].num_rows == there
    assert tables.read(NAME, ["key"])[1] > latest


def test_a_version_younger_than_keep_days_stays(tables):
    tables.merge(NAME, rows(a=1), ["key"])
    for value in range(2, 6):
        tables.merge(NAME, rows(a=value), ["key"])
    assert tables.tidy(NAME, 7, []) == Space()
    assert tables.read(NAME, ["value"], 0)[0]["value"].to_pylist() == [1]


def test_a_dry_run_tells_what_the_next_call_removes_and_changes_nothing(tables):
    tables.merge(NAME, many(0, 1_000), ["key"])
    for one in range(12):
        night(tables, one)
    before = sorted((path, path.stat().st_mtime) for path in folder(tables).rglob("*"))
    told = tables.tidy(NAME, 0, [], dry_run=True)
    assert sorted((path, path.stat().st_mtime) for path in folder(tables).rglob("*")) == before
    assert told.bytes > 0
    assert tables.tidy(NAME, 0, []) == told


def test_a_table_that_has_not_changed_is_left_alone(tables):
    nights(tables, 12)
    tables.tidy(NAME, 0, [])
    tables.tidy(NAME, 0, [])
    before = sorted(folder(tables).rglob("*"))
    assert tables.tidy(NAME, 0, []) == Space()
    assert sorted(folder(tables).rglob("*")) == before


def test_a_file_that_another_process_is_about_to_commit_stays_and_one_that_a_kill_left_goes_a_day_later(tables):
    nights(tables, 2)
    uncommitted, left = folder(tables) / "part-uncommitted.parquet", folder(tables) / "part-left.parquet"
    for path in (uncommitted, left):
        path.write_bytes(b"rows")
    yesterday = time.time() - 90_000
    os.utime(left, (yesterday, yesterday))
    tables.tidy(NAME, 0, [])
    assert uncommitted.exists()
    assert not left.exists()


def test_a_table_that_does_not_exist_has_nothing_to_tidy(tables):
    assert tables.tidy(NAME, 0, [3]) == Space()


@pytest.mark.parametrize("step", ["_merge_files", "_vacuum", "_write_checkpoint"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_whatever_ends_a_call_half_way_loses_no_row_and_no_needed_version(tables, tmp_path, monkeypatch, step, when):
    tables.merge(NAME, many(0, 100), ["key"])
    needed = tables.merge(NAME, many(50, 100), ["key"])
    for one in range(12):
        night(tables, one)
    rows_before, needed_before = content(tables)[0], tables.read(NAME, ["key"], needed)[0].num_rows
    work = getattr(DeltaRs, step)

    def stopped(self, *arguments, **options):
        if when == "after":
            work(self, *arguments, **options)
        raise Unavailable("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(DeltaRs, step, stopped)
        with pytest.raises(Unavailable):
            tables.tidy(NAME, 0, [needed])
    assert content(tables)[0] == rows_before
    tables.tidy(NAME, 0, [needed])
    assert content(tables)[0] == rows_before
    assert tables.read(NAME, ["key"], needed)[0].num_rows == needed_before


def test_a_writer_who_comes_first_keeps_its_rows(tmp_path):
    class Beaten(DeltaRs):
        def _open(self, table, version=None):
            there = super()._open(table, version)
            if self.beaten:
                self.beaten -= 1
                write_deltalake(self.uri(table), rows(other=0), mode="append")
            return there

        def _merge_files(self, table):
            self.beaten = 1
            super()._merge_files(table)

        beaten = 0

    tables = Beaten(tmp_path, Folder(), Images())
    for value in range(11):
        tables.merge(NAME, rows(**{f"k{value}": value}), ["key"])
    tables.tidy(NAME, 0, [])
    assert content(tables)[0] == {f"k{value}": value for value in range(11)} | {"other": 0}
