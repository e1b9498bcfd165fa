"""Behaviour in which delta-rs differs from the other engines."""

import multiprocessing
import sys
import threading
from pathlib import Path

import pytest
from deltalake import write_deltalake

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.delta import ATTEMPTS
from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.errors import CommitConflict, SettingsError, Terminal
from car_damage.platform import Target
from car_damage.settings import Images, Settings
from tests.tables.things import NAME, content, rows


@pytest.fixture
def tables(tmp_path):
    return DeltaRs(tmp_path, Folder(), Images(), sleep=lambda _: None)


class Beaten(DeltaRs):
    """Tables to which another writer commits at the last moment, `times` times."""

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


def test_tables_never_lie_on_a_volume():
    with pytest.raises(SettingsError, match="/Volumes"):
        DeltaRs(Path("/Volumes/insurance_uc/ops/home/tables"), Folder(), Images())


def test_without_deltalake_the_message_names_the_extra(tables, tmp_path, monkeypatch):
    (tmp_path / "lab" / "bronze" / "things").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(Terminal, match=r"car-damage\[local\]"):
        tables.read(NAME, ["key"])


@pytest.mark.parametrize("mark", ["%", "#", " ", "'", '"', "é", ";", ":", "*", "&", "+", "$HOME", "{}", "~", "<>", "`"])
def test_a_home_with_marks_in_its_path_has_its_tables_and_its_runs_there(tmp_path, mark):
    home = tmp_path / f"a{mark}b"
    target = Target(Settings(home=home))
    for value in (1, 2):
        target.tables.merge(NAME, rows(**{f"k{value}": value}), ["key"])
    target.tables.tidy(NAME, 0, [])
    assert target.tables.read(NAME, ["key"])[0].num_rows == 2
    assert [path.name for path in tmp_path.iterdir()] == [home.name]
