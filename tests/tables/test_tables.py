"""The port Tables on each engine: the behaviour that stages rely on."""

import os
import subprocess
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from car_damage.data.photos import features
from car_damage.errors import CarDamageError, CommitConflict, SettingsError, Terminal, Unavailable
from car_damage.ports import Space, Where
from tests import engines
from tests.engines import CONNECT, DELTA_RS, ENGINES, SPARK
from tests.fakes import sha256
from tests.searched import found
from tests.tables.things import NAME, SCHEMA, content, keys, rows


@pytest.fixture(params=ENGINES)
def tables(request, tmp_path, sessions):
    return engines.tables(request.param, tmp_path, sessions)


def test_a_table_that_is_not_there_has_no_rows_and_version_minus_one(tables):
    table, version = tables.read(NAME, ["key", "value"])
    assert (table.num_rows, table.column_names, version) == (0, ["key", "value"], -1)


def test_a_table_lies_where_its_name_says(tables, tmp_path):
    tables.merge(NAME, rows(a=1), ["key"])
    assert tables.uri(NAME) == str(tmp_path / "lab" / "bronze" / "things")
    assert DeltaTable(tables.uri(NAME)).version() == 0


@pytest.mark.parametrize("first", [{"a": 1}, {}], ids=["with rows", "without rows"])
def test_a_table_is_made_with_the_comments_on_its_columns_in_one_commit(tables, first):
    assert tables.merge(NAME, rows(**first), ["key"]) == 0
    table = DeltaTable(tables.uri(NAME))
    assert table.version() == 0
    assert comments(table) == {"key": "The thing's name.", "value": "What it's worth.", "note": None}


def test_a_column_that_is_added_later_has_its_comment_and_a_person_s_comments_stay(tables):
    tables.merge(NAME, pa.table(rows(a=1).drop_columns(["value"]).to_pydict()), ["key"])
    person = DeltaTable(tables.uri(NAME))
    person.alter.set_column_metadata("note", {"comment": "ask Anna"})
    tables.merge(NAME, rows(a=1, b=2), ["key"])
    assert comments(DeltaTable(tables.uri(NAME))) == {"key": None, "note": "ask Anna", "value": "What it's worth."}


def comments(table: DeltaTable) -> dict[str, str | None]:
    return {field.name: field.metadata.get("comment") for field in table.schema().fields}


def test_rows_are_read_by_bounds_of_a_time_and_by_texts(tables):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    texts = ["a", "b'c", "d\\e"]
    times = pa.array([at + timedelta(hours=hour) for hour in range(3)], pa.timestamp("us", "UTC"))
    tables.merge(NAME, pa.table({"key": texts, "when": times}), ["key"])

    def found(**which):
        rows, version = tables.read(NAME, ["key"], where=Where(**which))
        assert version == 0
        return sorted(rows["key"].to_pylist())

    hour = timedelta(hours=1)
    assert found(column="when", least=at + hour) == texts[1:]
    assert found(column="when", least=at + hour, most=at + hour) == texts[1:2]
    assert found(column="when", most=(at + hour).astimezone(timezone(5 * hour))) == texts[:2]
    assert found(column="key", among=texts[1:]) == texts[1:]
    assert (found(column="key", among=[]), found(column="key")) == ([], texts)
    assert tables.read("lab.bronze.nothing", ["key"], where=Where("key", among=["a"]))[1] == -1


def test_one_merge_updates_inserts_and_deletes_in_one_commit(tables):
    tables.merge(NAME, rows(a=1, b=2, c=3), ["key"])
    assert tables.merge(NAME, rows(b=20, d=4), ["key"], remove=keys("a", "nobody")) == 1
    assert content(tables) == ({"b": 20, "c": 3, "d": 4}, 1)


def test_an_update_may_leave_columns_out_and_then_inserts_nothing(tables):
    tables.merge(NAME, rows(a=1, b=2), ["key"])
    tables.merge(NAME, rows(a=9, z=9).select(["key", "value"]), ["key"])
    assert content(tables) == ({"a": 9, "b": 2}, 1)
    assert content(tables, ("key", "note"))[0] == {"a": "n", "b": "n"}


def test_a_column_that_is_written_once_keeps_its_value(tables):
    tables.merge(NAME, rows(a=1), ["key"])
    changed = rows(a=2, b=3).set_column(2, SCHEMA.field("note"), pa.array(["other", "other"]))
    tables.merge(NAME, changed, ["key"], once=["note"])
    assert content(tables)[0] == {"a": 2, "b": 3}
    assert content(tables, ("key", "note"))[0] == {"a": "n", "b": "other"}


def test_rows_behind_an_empty_chunk_are_not_lost(tables):
    chunked = pa.concat_tables([rows(a=1), rows(), rows(b=2)])
    assert len(chunked.to_batches()) == 3
    tables.merge(NAME, chunked, ["key"])
    tables.merge(NAME, pa.concat_tables([rows(a=10), rows(), rows(b=20)]), ["key"])
    assert content(tables)[0] == {"a": 10, "b": 20}


@pytest.mark.parametrize("first", [True, False], ids=["with rows", "without rows"])
def test_features_are_written_once_for_each_photo_view_and_digest_and_read_back_exactly(tables, first):
    name, values = "lab.silver.features", np.random.default_rng(1).random((3, 5), np.float32)
    if first:
        tables.merge(name, features.rows("old", ["a", "b"], "plain", values[:2]), features.KEY)
    else:
        tables.merge(name, features.FEATURES.empty_table(), features.KEY)
    for _ in range(2):
        tables.merge(name, features.rows("new", ["a", "b", "c"], "plain", values), features.KEY)
    kept, _ = tables.read(name, features.FEATURES.names)
    assert kept.num_rows == (5 if first else 3)
    found, there = features.found(kept, "new", ["c", "a", "b"], ("plain",), 5)
    assert there.all()
    assert np.array_equal(found[:, 0], values[[2, 0, 1]])
    gone = features.superfluous(tables.read(name, features.KEY)[0], {"new"}, {"a", "c"})
    tables.merge(name, features.FEATURES.empty_table(), features.KEY, remove=gone)
    assert sorted(tables.read(name, ["sha256"])[0]["sha256"].to_pylist()) == ["a", "c"]


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


@pytest.mark.parametrize(("tables", "commits"), [(DELTA_RS, 11), (SPARK, 11), (CONNECT, 4)], indirect=["tables"])
def test_tidying_leaves_the_rows_and_the_needed_versions_and_removes_the_rest(tables, commits, sessions):
    quick = engines.tables(DELTA_RS, Path(tables.uri(NAME)).parents[2], sessions)
    for value in range(commits):
        (quick if value < commits - 2 else tables).merge(NAME, rows(a=value, **{f"k{value}": value}), ["key"])
    assert tables.tidy(NAME, 7, [2]) == Space()
    there, latest = content(tables)
    told = tables.tidy(NAME, 0, [0], dry_run=True)
    assert told.files >= commits - 2
    assert tables.tidy(NAME, 0, [0]) == told
    assert tables.read(NAME, ["value"], 0)[0]["value"].to_pylist() == [0, 0]
    assert tables.read(NAME, ["key"], latest)[0].num_rows == len(there)
    with pytest.raises(CarDamageError):
        tables.read(NAME, ["value"], version=2)
    assert content(tables)[0] == there
    tables.merge(NAME, rows(a=100), ["key"])
    assert content(tables)[0] == there | {"a": 100}


def test_a_write_on_a_base_that_has_moved_is_refused_and_changes_nothing(tables):
    tables.merge(NAME, rows(a=1), ["key"], base=-1)
    tables.merge(NAME, rows(a=2), ["key"], base=0)
    for base in (-1, 0):
        with pytest.raises(CommitConflict, match=NAME):
            tables.merge(NAME, rows(a=3), ["key"], base=base)
    assert content(tables) == ({"a": 2}, 1)


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


@pytest.mark.parametrize("name", ["things", "a.b", "a..c", "a.b.c.d", "a.../x.b"])
def test_a_name_without_three_levels_is_refused(tables, name):
    with pytest.raises(SettingsError, match=r"catalog\.schema\.table"):
        tables.read(name, ["key"])


def test_an_optional_column_that_the_table_lacks_is_null(tables):
    tables.merge(NAME, rows(a=1), ["key"])
    table, version = tables.read(NAME, ["later", "key"], optional=["later", "value"])
    assert (table.to_pydict(), version) == ({"later": [None], "key": ["a"]}, 0)


@pytest.mark.parametrize("base", [None, 0])
def test_a_merge_adds_the_columns_that_the_table_lacks(tables, base):
    tables.merge(NAME, rows(a=1, b=2), ["key"])
    more = rows(b=3, c=4)
    more = more.append_column("later", pa.array(["x", "y"], pa.string()))
    version = tables.merge(NAME, more, ["key"], base=base)
    table, latest = tables.read(NAME, ["key", "value", "later"])
    assert table.sort_by("key").to_pydict() == {"key": ["a", "b", "c"], "value": [1, 3, 4], "later": [None, "x", "y"]}
    assert version == latest
    assert tables.merge(NAME, more.slice(0, 1).set_column(1, "value", [[7]]), ["key"], base=latest) == latest + 1


def test_a_column_that_the_table_lacks_is_an_error_with_the_tables_name(tables):
    tables.merge(NAME, rows(a=1), ["key"])
    with pytest.raises(Terminal, match=NAME):
        tables.read(NAME, ["nothing"])


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MiB, and a function that enlarges it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options, *where):
        command = ["/bin/mount", *where, "-o", options, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    mounted = mount("size=2m", "-t", "tmpfs", "none")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder, lambda: mount("remount,size=64m")
    subprocess.run(["/bin/umount", "--lazy", str(folder)], timeout=120, check=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk_is_told_and_costs_no_row(engine, small_disk, sessions):
    folder, enlarge = small_disk
    tables = engines.tables(engine, folder, sessions)
    tables.merge(NAME, rows(a=1), ["key"])
    noise = [np.random.default_rng(number).bytes(500).hex() for number in range(10_000)]
    many = pa.table({"key": [f"k{number}" for number in range(10_000)], "value": range(10_000), "note": noise}, schema=SCHEMA)
    with pytest.raises(Unavailable, match=f"{NAME}.*No space left on device"):
        tables.merge(NAME, many, ["key"])
    assert content(tables) == ({"a": 1}, 0)
    enlarge()
    assert tables.merge(NAME, many, ["key"]) == 1
    assert len(content(tables)[0]) == 10_001


def hashes(*numbers):
    return pa.table({"sha256": [sha256(bytes([number])) for number in numbers], "value": [float(number) for number in numbers]})


def test_after_a_purge_removed_rows_are_in_no_file_and_the_others_stay(tables, tmp_path):
    """Each commit has one file of one row, so the log has the whole hash as its smallest value."""
    gone, left = sha256(b"\0"), {sha256(bytes([number])) for number in (1, 2, 3)}
    for number in range(3):
        version = tables.merge(NAME, hashes(number), ["sha256"])
    only_hash = hashes(0).select(["sha256"])
    tables.merge(NAME, only_hash.slice(0, 0), ["sha256"], remove=only_hash)
    folder = tmp_path / "lab" / "bronze" / "things"
    pq.write_table(hashes(0, 3), folder / "part-of-a-killed-writer.parquet")
    pq.write_table(hashes(3), folder / "part-of-another-writer.parquet")
    drafts = [folder / "_delta_log" / f"_commit_{uuid.uuid4()}.json.tmp", folder / "part-half-written.parquet"]
    for draft in drafts:
        draft.write_text(gone)
    assert "stay for a day" in tables.purge(NAME, gone.__eq__)
    assert all(draft.exists() for draft in drafts), "a live writer may be writing them"
    for draft in drafts:
        os.utime(draft, (time.time() - 90_000,) * 2)
    assert found(tmp_path, {"it": gone.encode()})
    for _ in range(2):
        assert not tables.purge(NAME, gone.__eq__)
        assert not found(tmp_path, {"it": gone.encode()})
        rows, latest = tables.read(NAME, ["sha256", "value"])
        assert (set(rows["sha256"].to_pylist()), latest > version) == (left - {sha256(bytes([3]))}, True)
    assert (folder / "part-of-another-writer.parquet").exists()
    with pytest.raises(CarDamageError):
        tables.read(NAME, ["value"], version)
    tables.merge(NAME, hashes(3), ["sha256"])
    assert set(tables.read(NAME, ["sha256"])[0]["sha256"].to_pylist()) == left
    assert not tables.purge("lab.bronze.nothing", gone.__eq__)
