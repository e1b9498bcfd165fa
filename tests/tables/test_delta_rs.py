import multiprocessing
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from car_damage.engines.delta_rs import ATTEMPTS, DeltaRs
from car_damage.engines.folder import Folder
from car_damage.errors import CommitConflict, SettingsError, Terminal
from car_damage.settings import Images

NAME = "lab.bronze.things"
SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.int64()), pa.field("note", pa.string())])


@pytest.fixture
def tables(tmp_path):
    return DeltaRs(tmp_path, Folder(), Images(), sleep=lambda _: None)


def rows(**values):
    return pa.table({"key": list(values), "value": list(values.values()), "note": ["n"] * len(values)}, schema=SCHEMA)


def keys(*names):
    return pa.table({"key": pa.array(names, pa.string())})


def content(tables, columns=("key", "value")):
    table, version = tables.read(NAME, columns)
    return {row["key"]: row[columns[1]] for row in table.to_pylist()}, version


def test_a_table_that_is_not_there_has_no_rows_and_version_minus_one(tables):
    table, version = tables.read(NAME, ["key", "value"])
    assert (table.num_rows, table.column_names, version) == (0, ["key", "value"], -1)


def test_a_table_lies_where_its_name_says(tables, tmp_path):
    tables.merge(NAME, rows(a=1), ["key"])
    assert tables.uri(NAME) == str(tmp_path / "lab" / "bronze" / "things")
    assert DeltaTable(tables.uri(NAME)).version() == 0


def test_one_merge_updates_inserts_and_deletes_in_one_commit(tables):
    tables.merge(NAME, rows(a=1, b=2, c=3), ["key"])
    assert tables.merge(NAME, rows(b=20, d=4), ["key"], remove=keys("a", "nobody")) == 1
    assert content(tables) == ({"b": 20, "c": 3, "d": 4}, 1)


def test_an_update_may_leave_columns_out_and_then_inserts_nothing(tables):
    tables.merge(NAME, rows(a=1, b=2), ["key"])
    tables.merge(NAME, rows(a=9, z=9).select(["key", "value"]), ["key"])
    assert content(tables) == ({"a": 9, "b": 2}, 1)
    assert content(tables, ("key", "note"))[0] == {"a": "n", "b": "n"}


def test_a_null_is_written_over_a_value(tables):
    tables.merge(NAME, rows(a=1), ["key"])
    tables.merge(NAME, rows(a=None), ["key"])
    assert content(tables)[0] == {"a": None}


def test_nothing_to_do_is_no_commit(tables):
    tables.merge(NAME, rows(a=1), ["key"])
    assert tables.merge(NAME, rows(), ["key"], remove=keys()) == 0
    assert tables.merge(NAME, rows(), ["key"], remove=keys("nobody")) == 0


def test_an_empty_table_can_be_created(tables):
    assert tables.merge(NAME, rows(), ["key"]) == 0
    assert content(tables) == ({}, 0)


def test_an_earlier_version_is_read_as_it_was(tables):
    tables.merge(NAME, rows(a=1), ["key"])
    tables.merge(NAME, rows(a=2), ["key"])
    table, version = tables.read(NAME, ["value"], version=0)
    assert (table["value"].to_pylist(), version) == ([1], 0)
    with pytest.raises(Terminal, match=NAME):
        tables.read(NAME, ["value"], version=7)


def test_a_write_on_a_base_that_has_moved_is_refused_and_changes_nothing(tables):
    tables.merge(NAME, rows(a=1), ["key"], base=-1)
    tables.merge(NAME, rows(a=2), ["key"], base=0)
    for base in (-1, 0):
        with pytest.raises(CommitConflict, match=NAME):
            tables.merge(NAME, rows(a=3), ["key"], base=base)
    assert content(tables) == ({"a": 2}, 1)


class Beaten(DeltaRs):
    """Tables to which another writer commits at the last moment, a number of times."""

    def __init__(self, root, times):
        self.slept = []
        super().__init__(root, Folder(), Images(), sleep=self.slept.append)
        self._times = times

    def _open(self, table, version=None):
        there = super()._open(table, version)
        if self._times and version is None:
            self._times -= 1
            write_deltalake(self.uri(table), rows(**{f"other{self._times}": 0}), mode="append")
        return there


def test_a_write_without_a_base_is_computed_again_when_another_one_came_first(tables, tmp_path):
    tables.merge(NAME, rows(a=1), ["key"])
    beaten = Beaten(tmp_path, 2)
    assert beaten.merge(NAME, rows(a=2), ["key"]) == 3
    assert content(tables)[0] == {"a": 2, "other0": 0, "other1": 0}
    assert len(beaten.slept) == 2


def test_a_commit_between_opening_and_writing_is_noticed_with_a_base(tables, tmp_path):
    tables.merge(NAME, rows(a=1), ["key"])
    with pytest.raises(CommitConflict):
        Beaten(tmp_path, 1).merge(NAME, rows(a=2), ["key"], base=0)
    assert content(tables)[0] == {"a": 1, "other0": 0}


def test_a_write_gives_up_after_a_limited_number_of_conflicts(tables, tmp_path):
    tables.merge(NAME, rows(a=1), ["key"])
    beaten = Beaten(tmp_path, 1000)
    with pytest.raises(CommitConflict):
        beaten.merge(NAME, rows(a=2), ["key"])
    assert len(beaten.slept) == ATTEMPTS - 1


def test_two_that_create_a_table_at_once_both_get_their_rows_in(tables, tmp_path):
    class Late(Beaten):
        def _open(self, table, version=None):
            there = DeltaRs._open(self, table, version)
            if there is None:
                tables.merge(table, rows(first=1), ["key"])
            return there

    assert Late(tmp_path, 0).merge(NAME, rows(second=2), ["key"]) == 1
    assert content(tables)[0] == {"first": 1, "second": 2}


def write_many(root, writer, barrier):
    tables = DeltaRs(Path(root), Folder(), Images())
    barrier.wait()
    for turn in range(3):
        tables.merge(NAME, rows(shared=writer, **{f"w{writer}t{turn}": turn}), ["key"])


def test_processes_that_write_at_once_lose_and_double_nothing(tables, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    writers = [context.Process(target=write_many, args=(str(tmp_path), writer, barrier)) for writer in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    table, version = tables.read(NAME, ["key"])
    assert sorted(table["key"].to_pylist()) == ["shared", *(f"w{writer}t{turn}" for writer in range(2) for turn in range(3))]
    assert version == 5


def test_threads_that_create_and_write_at_once_lose_and_double_nothing(tmp_path):
    barrier = threading.Barrier(3)
    writers = [threading.Thread(target=write_many, args=(str(tmp_path), writer, barrier)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    table, _ = DeltaRs(tmp_path, Folder(), Images()).read(NAME, ["key"])
    assert table.num_rows == len(set(table["key"].to_pylist())) == 10


def test_tables_are_plain_enough_for_every_reader(tables):
    text = pa.array(["a"], pa.large_string())
    rows_ = pa.table({"key": text, "at": pa.array([0], pa.timestamp("us", "UTC"))})
    tables.merge(NAME, rows_, ["key"])
    protocol = DeltaTable(tables.uri(NAME)).protocol()
    assert (protocol.min_reader_version, protocol.reader_features) == (1, None)
    assert (protocol.min_writer_version, protocol.writer_features) == (2, None)
    read, _ = tables.read(NAME, ["key", "at"])
    assert read.schema.types == [pa.string(), pa.timestamp("us", "UTC")]


def test_two_rows_with_one_key_in_one_merge_are_a_mistake_of_the_caller(tables):
    with pytest.raises(ValueError, match="same key"):
        tables.merge(NAME, pa.concat_tables([rows(a=1), rows(a=2)]), ["key"])


def test_unsigned_numbers_are_refused_before_anything_is_written(tables):
    with pytest.raises(ValueError, match="unsigned"):
        tables.merge(NAME, pa.table({"key": ["a"], "value": pa.array([1], pa.uint64())}), ["key"])
    assert content(tables) == ({}, -1)


def test_tables_never_lie_on_a_volume():
    with pytest.raises(SettingsError, match="/Volumes"):
        DeltaRs(Path("/Volumes/insurance_uc/ops/home/tables"), Folder(), Images())


@pytest.mark.parametrize("name", ["things", "a.b", "a..c", "a.b.c.d", "a.../x.b"])
def test_a_name_without_three_levels_is_refused(tables, name):
    with pytest.raises(SettingsError, match=r"catalog\.schema\.table"):
        tables.read(name, ["key"])


def test_a_column_that_the_table_lacks_is_an_error_with_the_tables_name(tables):
    tables.merge(NAME, rows(a=1), ["key"])
    with pytest.raises(Terminal, match=NAME):
        tables.read(NAME, ["nothing"])


def test_without_deltalake_the_message_names_the_extra(tables, tmp_path, monkeypatch):
    (tmp_path / "lab" / "bronze" / "things").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(Terminal, match=r"car-damage\[local\]"):
        tables.read(NAME, ["key"])
