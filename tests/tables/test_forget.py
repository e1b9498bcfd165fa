"""Forgetting a photo that lies in tables and folders: nothing of it is left, it is not taken up again, and nothing else is lost."""

import importlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from pkgutil import walk_packages

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import car_damage.data as data_rooms
from car_damage.data.answers import claims, inference_log
from car_damage.data.answers.predictions import KEY, PREDICTIONS
from car_damage.data.described import comment_of
from car_damage.data.forgotten import mark_of
from car_damage.data.people import doubts, reviews
from car_damage.data.people.desk import Desk
from car_damage.data.people.doubts import Doubt, Doubts
from car_damage.data.people.waiting import Answer
from car_damage.data.photos import features
from car_damage.pipeline import ForgetRequest
from car_damage.settings import TABLES
from car_damage.stage import silent
from car_damage.stages.forget import STAGE as FORGET
from car_damage.stages.monitoring import requests
from car_damage.traces import certificate
from car_damage.traces.places import places
from car_damage.traces.rows import HASH, LISTS, PATH, Rows
from car_damage.traces.sought import SoughtPhoto
from tests.fakes import Runs, Shelf, Versions, sha256
from tests.searched import found
from tests.tables.test_reviews import LABELS, say

NAMES = {name: f"insurance_uc.gold.{name}" for name in ("predictions", "claims")} | {
    name: f"insurance_uc.silver.{name}" for name in ("reviews", "features", "forgotten")
}


@pytest.fixture
def known(workshop, photo):
    """Nine photos with predictions, features and claims. The first lies at two paths, was reviewed, and is kept for review."""
    workshop.configure(answers={"keep_for_review": str(workshop.root / "kept")})
    for name, port in {"tracking": Runs({}), "archive": Shelf(), "registry": Versions()}.items():
        setattr(workshop.platform, name, port)
    for seed in range(9):
        workshop.put(f"{LABELS[seed % 3]}/p{seed}.jpg", photo(seed))
    workshop.put("minor/again.jpg", photo(0))
    workshop.run()
    settings, tables = workshop.platform.settings, workshop.platform.tables
    paths = [str(workshop.landing / row["path"]) for row in workshop.bronze_rows()]
    answers = [row | {"model_version": 1, "label": "minor", "path": path} for row, path in zip(workshop.bronze_rows(), paths, strict=True)]
    for row in answers:
        if row["path"].endswith(("minor/p0.jpg", "minor/p3.jpg")):
            row |= {"sha256": None, "refused": "truncated"}
    tables.merge(NAMES["predictions"], pa.Table.from_pylist(answers, PREDICTIONS), KEY)
    rows = features.rows("d" * 64, [sha256(photo(seed)) for seed in range(9)], "plain", np.zeros((9, 2)))
    tables.merge(NAMES["features"], rows, features.KEY)
    of = {"source": "s", "model_version": 1, "label": "minor", "review": False, "undecided": []}
    both = [str(workshop.landing / "minor" / name) for name in ("p0.jpg", "again.jpg")]
    other = str(workshop.landing / "minor/p3.jpg")
    shown = {"alone": both, "together": [*both, other], "others": [other]}
    rows = [of | {"claim": name, "photos": len(by), "shown_by": by} for name, by in shown.items()]
    tables.merge(NAMES["claims"], pa.Table.from_pylist(rows, claims.CLAIMS), claims.KEY)
    desk = Desk(workshop.platform.files, settings.answers, workshop.platform.clock)
    for seed in (0, 30):
        assert desk.keep(photo(seed), Answer("minor", {"minor": 0.4}, (), "model-1", "2026-01-01"))
    wrong = [Doubt(sha256(photo(seed)), str(workshop.landing / f"p{seed}.jpg"), "minor", {"major": 0.9}) for seed in (0, 1)]
    desk.doubt(Doubts("2026-01-01", tuple(wrong), 9))
    (settings.home / "requests").mkdir()
    for name, seeds in {"one": (0,), "several": (0, 1, 0)}.items():
        noted = pa.table({"sha256": [sha256(photo(seed)) for seed in seeds], "label": ["minor"] * len(seeds)})
        pq.write_table(noted, settings.home / "requests" / f"{name}.parquet")
    say(workshop, photo(0), "moderate", photo=photo(0))
    say(workshop, photo(1), "major")
    workshop.run()
    return workshop


def forget(workshop, data):
    return FORGET.work(ForgetRequest("flow", mark_of(sha256(data)), "Ann"), workshop.platform, silent)


def traces(report):
    return {(trace.place.rpartition(".")[2], trace.what): trace.items for trace in report.found}


def left(workshop, data):
    """What is left of a photo, but for the landing folder."""
    return found(workshop.root, {"hash": sha256(data).encode(), "bytes": data}, but=("landing",))


def test_a_forgotten_photo_is_in_no_table_and_no_folder_and_all_others_are(known, photo):
    everything = {name: known.platform.tables.read(table, ["sha256"])[0]["sha256"].to_pylist() for name, table in tables_of(known).items()}
    assert left(known, photo(0))
    report = forget(known, photo(0))
    assert not left(known, photo(0))
    assert report.files == tuple(str(known.landing / "minor" / name) for name in ("again.jpg", "p0.jpg"))
    assert all((known.landing / "minor" / name).exists() for name in ("again.jpg", "p0.jpg"))
    wanted = {"raw_images": 3, "training_images": 1, "splits": 1, "reviews": 1, "features": 1, "predictions": 2}
    assert {place: items for (place, what), items in traces(report).items() if what == "rows"} == wanted
    folders = {place: items for (place, what), items in traces(report).items() if what == "files"}
    assert folders == {"words of people": 1, "photos that people corrected": 1, "photos kept for review": 2}
    everything["predictions"].remove(None)  # the model has refused the file at one of the two paths
    [noted] = (known.root / "home" / "requests").iterdir()
    assert pq.read_table(noted)["sha256"].to_pylist() == [sha256(photo(1))]
    for name, table in tables_of(known).items():
        after = known.platform.tables.read(table, ["sha256"])[0]["sha256"].to_pylist()
        assert sorted(map(str, after)) == sorted(str(one) for one in everything[name] if one != sha256(photo(0)))
    assert left(known, photo(30)), "it is kept for review, too"
    assert left(known, photo(1)), "its label looks wrong, too"
    rows, _ = known.platform.tables.read(NAMES["claims"], ["claim", "label", "review", "photos", "shown_by"])
    assert sorted(map(json.dumps, rows.to_pylist())) == [
        json.dumps({"claim": name, "label": "minor", "review": False, "photos": 1, "shown_by": [str(known.landing / "minor/p3.jpg")]})
        for name in ("others", "together")
    ]
    assert report.paths == report.files
    assert forget(known, photo(0)) == replace(report, paths=()), "a second call finds nothing, and tells what the first has found"


def test_a_file_that_cannot_be_read_or_has_just_gone_blocks_nothing_and_is_told_until_it_is_gone(known, photo):
    settings = known.platform.settings
    broken = [settings.home / "requests" / "broken.parquet", Path(settings.answers.keep_for_review, doubts.FILE)]
    for path in broken:
        path.write_bytes(b"PAR1 and no more")
    (settings.home / "requests" / "taken.parquet").symlink_to("what monitor has just taken in")
    audited = [trace for place in places(known.platform) for trace in place.find(SoughtPhoto(sha256(photo(0)).__eq__))]
    assert sorted(trace.place for trace in audited if trace.stays) == sorted(map(str, broken))
    report = forget(known, photo(0))
    assert sorted(trace.place for trace in report.found if "cannot be read" in trace.stays) == sorted(map(str, broken))
    assert not left(known, photo(0))
    for path in broken:
        path.unlink()
    assert not [trace for trace in forget(known, photo(0)).found if "cannot be read" in trace.stays]


def test_logs_lose_the_photo_s_hash_and_paths_and_the_processes_that_write_them_go_on(known, photo):
    lines = {
        known.root / "home" / "logs" / "worker.log": f"{known.landing}/minor/p0.jpg is left out\n{known.landing}/minor/p3.jpg, too\n",
        known.root / "home" / "endpoint" / "logs" / "ep.1.log": f'{{"sha256": "{sha256(photo(0))}"}} {{"sha256": "{sha256(photo(1))}"}}\n',
    }
    for path, text in lines.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    with next(iter(lines)).open("ab", buffering=0) as worker:
        report = forget(known, photo(0))
        worker.write(b"the line after it\n")
    worker_log, build_log = (path.read_text() for path in lines)
    assert worker_log.splitlines()[1:] == [f"{known.landing}/minor/p3.jpg, too", "the line after it"]
    assert sha256(photo(1)) in build_log
    assert "p0.jpg" not in worker_log
    assert [items for (_, what), items in traces(report).items() if what == "files with lines that name it"] == [1, 1]
    assert not left(known, photo(0))


def test_what_a_killed_writer_has_begun_to_write_of_the_photo_goes_too(known, photo):
    settings, named = known.platform.settings, sha256(photo(0))
    begun = [
        Path(settings.answers.keep_for_review, f".{named}.photo.{'a' * 32}"),
        Path(settings.answers.corrections, "photos", f".{named}.jpg.{'b' * 32}"),
        settings.home / "requests" / f".one.parquet.{'c' * 32}",
    ]
    for path in begun:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(0)[:1000])
    os.utime(begun[-1], (1_700_000_000, 1_700_000_000))
    other = begun[0].with_name(f".{sha256(photo(1))}.photo.{'d' * 32}")
    other.write_bytes(photo(1))
    forget(known, photo(0))
    assert [path for path in (*begun, other) if path.exists()] == [other]


def test_the_certificate_says_of_each_file_whether_it_still_lies_there(known, photo):
    first, second = forget(known, photo(0)).files
    Path(first).unlink()
    report = forget(known, photo(0))
    assert report.files == (second,)
    assert {trace.place: trace.stays for trace in report.found if trace.place in {first, second}} == {
        first: "",
        second: "whoever owns the folder removes it",
    }
    assert first not in "".join(certificate.lines(report))


def test_what_a_later_call_removes_is_added_and_what_a_killed_one_has_noted_is_not_counted_twice(known, photo, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(known.platform.tables, "purge", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(known, photo(0))
    once = traces(forget(known, photo(0)))
    assert once["photos kept for review", "files"] == 2
    settings = known.platform.settings
    assert Desk(known.platform.files, settings.answers, known.platform.clock).keep(
        photo(0), Answer("minor", {"minor": 0.4}, (), "m", "2026")
    )
    assert traces(forget(known, photo(0))) == once | {("photos kept for review", "files"): 4}


def tables_of(workshop):
    names = workshop.platform.settings.tables
    return {name: getattr(names, name) for name in TABLES if name not in {"claims", "forgotten"}}


def test_a_forgotten_photo_is_not_taken_up_again_while_its_file_lies_there(known, photo):
    forget(known, photo(0))
    for name, first in (("p0.jpg", 2), ("p0.jpg", 0)):
        validated, silver = known.run()
        assert (validated.rejected, silver.rejected["forgotten"]) == ({"forgotten": first} if first else {}, 2)
        assert known.bronze()[f"minor/{name}"] == ("rejected", "forgotten")
        assert not left(known, photo(0))
    known.put("major/elsewhere.jpg", photo(0))
    known.run()
    assert known.bronze()["major/elsewhere.jpg"] == ("rejected", "forgotten")
    for path in ("minor/p0.jpg", "minor/again.jpg", "major/elsewhere.jpg"):
        (known.landing / path).unlink()
    validated, _ = known.run()
    assert (validated.vanished, [name for name, (_, reason) in known.bronze().items() if reason == "forgotten"]) == (3, [])
    assert not left(known, photo(0))


def test_a_photo_that_is_forgotten_while_files_are_judged_is_not_taken_up(known, photo, monkeypatch):
    each = known.platform.tables.each

    def judged_for_hours(*given):
        found = each(*given)
        FORGET.work(ForgetRequest("flow", mark_of(sha256(photo(0))), "Ann", note_only=True), known.platform, silent)
        return found

    monkeypatch.setattr(known.platform.tables, "each", judged_for_hours)
    known.put("minor/late.jpg", photo(0))
    assert known.run()[0].rejected == {"forgotten": 1}
    assert known.bronze()["minor/late.jpg"] == ("rejected", "forgotten")


def test_a_word_about_a_forgotten_photo_is_removed_with_the_photo_that_came_with_it(known, photo):
    forget(known, photo(0))
    say(known, photo(0), "major", minute=9, photo=photo(0))
    say(known, photo(1), "minor", minute=9)
    validated, silver = known.run()
    assert validated.words == 1
    assert "forgotten" in silver.rejected
    assert not left(known, photo(0))
    assert len(known.platform.tables.read(NAMES["reviews"], reviews.KEY)[0]) == 2


def test_a_request_with_a_forgotten_photo_is_noted_without_its_hash(known, photo):
    forget(known, photo(0))
    rows = [{"request_id": str(seed), "answered": datetime(2026, 1, 1, tzinfo=UTC), "sha256": sha256(photo(seed))} for seed in (0, 1)]
    requests._insert([pa.Table.from_pylist(rows, inference_log.INFERENCE_LOG)], known.platform)
    logged, _ = known.platform.tables.read("insurance_uc.gold.inference_log", ["request_id", "sha256"])
    assert dict(zip(*(logged[name].to_pylist() for name in logged.column_names), strict=True)) == {"0": None, "1": sha256(photo(1))}
    assert not left(known, photo(0))


def test_a_file_that_has_taken_the_photo_s_place_stays(known, photo):
    known.put("minor/p0.jpg", photo(50))
    known.run()
    forget(known, photo(0))
    assert not left(known, photo(0))
    assert known.bronze()["minor/p0.jpg"] == ("valid", None)


def described_tables():
    """Every table that the code describes, and the settings' names of those that are read."""
    modules = [importlib.import_module(one.name) for one in walk_packages(data_rooms.__path__, f"{data_rooms.__name__}.")]
    schemas = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, pa.Schema)}
    return [schema for schema in schemas.values() if comment_of(schema)]


def test_every_described_table_that_names_photos_is_covered(workshop):
    """A table that joins is covered by its columns' names. One that names photos in another way needs a place of its own."""
    assert len(described_tables()) == len(TABLES)
    for number, schema in enumerate(described_tables()):
        lists = {field.name for field in schema if pa.types.is_list(field.type) and pa.types.is_string(field.type.value_type)}
        assert lists <= set(LISTS), "a list of texts may be one of paths"
        named = {HASH, PATH} & set(schema.names)
        names = {name for name in schema.names if {"path", "paths", "sha256", "hash", "photo", "photos"} & set(name.split("_"))}
        assert names <= {HASH, PATH, "photos"}
        if named:
            table = f"lab.gold.table{number}"
            columns = {HASH: "ab" * 32, PATH: "/photos/a.jpg"}
            row = {field.name: columns.get(field.name, field.nullable and None) for field in schema}
            row = {name: value if value is not False else _some(schema.field(name).type) for name, value in row.items()}
            workshop.platform.tables.merge(table, pa.Table.from_pylist([row], schema), sorted(named))
            place, sought = Rows(workshop.platform.tables, table), SoughtPhoto(("ab" * 32).__eq__, {"/photos/a.jpg"})
            assert [trace.items for trace in place.find(sought)] == [1]
            place.remove(sought)
            assert not place.find(sought)


def _some(kind):
    if pa.types.is_timestamp(kind):
        return datetime(2026, 1, 1, tzinfo=UTC)
    return "some" if pa.types.is_string(kind) else 1


def test_the_table_of_predictions_is_found_by_the_path_of_a_photo_that_the_model_has_refused(known, photo):
    forget(known, photo(0))
    rows, _ = known.platform.tables.read(NAMES["predictions"], ["path"])
    assert len(rows) == 8
