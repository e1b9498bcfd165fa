"""Batch scoring on real Delta tables with each engine. The bytes of a photo determine the model's answer."""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from car_damage.adapters.databricks.volume import Volume
from car_damage.adapters.folder import Folder
from car_damage.adapters.tables import delta, spark_answers, spark_files, spark_work
from car_damage.data.answers.claims import CLAIMS
from car_damage.data.answers.predictions import ADDED, KEY, PREDICTIONS
from car_damage.data.described import comment_of
from car_damage.data.forgotten import KEY as MARK
from car_damage.data.forgotten import Forgotten, mark_of
from car_damage.data.forgotten import row as row_of_mark
from car_damage.errors import ModelRefused, RegistryError, SettingsError, Terminal
from car_damage.model.served.process import ModelAnswer
from car_damage.pipeline import ScoreRequest
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.score import STAGE as SCORE
from tests import engines
from tests.engines import DELTA_RS, ENGINES, SPARK
from tests.fakes import Versions
from tests.tables.conftest import HandClock

TABLE = "insurance_uc.gold.predictions"


MODEL = """
import base64
import hashlib
import os
from pathlib import Path

import mlflow
import pandas
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

ASKED, LABEL = Path({asked!r}), {label!r}


class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pandas.DataFrame, params=None):
        photos = [base64.b64decode(image) for image in model_input["image"]]
        if any(photo.startswith(b"text") for photo in photos):
            raise MlflowException("row 0: not an image", error_code=INVALID_PARAMETER_VALUE)
        with ASKED.open("a") as asked:
            asked.writelines(f"{{os.getpid()}} {{photo.decode()}}\\n" for photo in photos)
        return pandas.DataFrame(
            [
                {{
                    "label": LABEL,
                    "probability": 0.75,
                    "probability_minor": 0.75,
                    "probability_major": 0.25,
                    "sha256": hashlib.sha256(photo).hexdigest(),
                    **({{"classes": ["minor", "major"], "review": True}} if LABEL == "major" else {{}}),
                }}
                for photo in photos
            ]
        )


mlflow.models.set_model(Model())
"""
"""Version 1 is of a release whose models did not say which classes they cannot exclude.

Answers on Spark's machines as `answer` does here, except that no photo tells it what to say or ends it."""


@dataclass
class World:
    """A platform with real files and tables, and a registry of two versions. Version 1 is live."""

    settings: Settings
    tables: object
    files: object = field(default_factory=Folder)
    registry: Versions = field(default_factory=Versions)
    clock: HandClock = field(default_factory=HandClock)

    def photo(self, name, data=None):
        path = self.settings.home / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data or name.encode())
        return str(path)

    def score(self, source="", version="champion"):
        return SCORE.work(ScoreRequest("flow-run", source, version), self, silent)

    def asked(self):
        """The photos that a model was asked about since the last call, sorted."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return sorted(line.partition(" ")[2] for line in lines)

    def processes(self):
        """The numbers of the processes that have answered since the last call of `asked`."""
        return {line.partition(" ")[0] for line in self.log.read_text().splitlines()}

    @property
    def log(self):
        return self.settings.home / "asked"

    def rows(self):
        """(name, version) -> row."""
        rows, _ = self.tables.read(TABLE, PREDICTIONS.names)
        found = {(row["path"].rpartition("/")[2], row["model_version"]): row for row in rows.to_pylist()}
        assert len(found) == rows.num_rows
        return found


def world_of(engine, folder, sessions, monkeypatch, **scoring):
    settings = Settings(home=folder, landing={"folder": str(folder / "photos")}, scoring=scoring)
    (folder / "photos").mkdir()
    world = World(settings, engines.tables(engine, folder / "tables", sessions))
    for version, label in ((1, "minor"), (2, "major")):
        world.registry.add(version)
        if engine != DELTA_RS:
            world.registry.folders[f"models:/model/{version}"] = _saved(folder, label)
    world.registry.move("champion", 1)

    def answer(model, photos, timeout, environment):
        """Answer as a model's process does: version 1 answers minor and version 2 major; both refuse text."""
        assert (timeout, environment) == (world.settings.tracking.check_timeout, world.settings.tracking.champion_environment)
        for photo in photos:
            if photo.startswith(b"text"):
                yield ModelAnswer("", 0.0, {}, "", "not an image")
            elif photo == b"end":
                raise ModelRefused("the model ended")
            else:
                with (folder / "asked").open("a") as asked:
                    asked.write(f"{os.getpid()} {photo.decode()}\n")
                label = photo[5:].decode() if photo.startswith(b"says ") else "major" if model.name.endswith(("2", "major")) else "minor"
                more = {"classes": ("minor", "major"), "review": True} if label == "major" else {}
                yield ModelAnswer(label, 0.75, {"minor": 0.75, "major": 0.25}, hashlib.sha256(photo).hexdigest(), **more)

    monkeypatch.setattr(delta, "stream", answer)
    return world


def _saved(folder, label):
    """The folder of a model that gives this label."""
    import mlflow

    code = folder / f"{label}.py"
    code.write_text(MODEL.format(asked=str(folder / "asked"), label=label))
    mlflow.pyfunc.save_model(path=str(folder / label), python_model=str(code), pip_requirements=[])
    return folder / label


@pytest.fixture
def world(tmp_path, engine, sessions, monkeypatch):
    return world_of(engine, tmp_path, sessions, monkeypatch, chunk=3)


@pytest.mark.parametrize("name", ENGINES)
def test_a_version_is_asked_once_about_each_photo_on_every_engine(name, tmp_path, sessions, monkeypatch, caplog):
    monkeypatch.setattr(spark_files, "PART_BYTES", spark_files.OPEN_BYTES)  # a task for each photo
    monkeypatch.setattr(spark_work, "LEAST", 5)
    world = world_of(name, tmp_path, sessions, monkeypatch)
    for number in range(7):
        world.photo(f"{number}.jpg")
    world.photo("text.jpg")
    (tmp_path / "photos" / "empty.jpg").touch()
    (tmp_path / "photos" / "nowhere.jpg").symlink_to(tmp_path / "nowhere")
    report = world.score()
    assert (report.version, report.found, report.scored, report.labels, report.refused) == (1, 10, 7, {"minor": 7}, 2)
    path = f"{tmp_path}/photos/"
    assert report.examples == {f"{path}empty.jpg": "empty", f"{path}text.jpg": "not an image"}
    assert (report.unreadable, report.unreadable_count) == ((f"{path}nowhere.jpg",), 1)
    row = world.rows()["0.jpg", 1]
    assert (row["label"], row["probability"], row["refused"], row["flow_run"]) == ("minor", 0.75, None, "flow-run")
    assert json.loads(row["probabilities"]) == {"minor": 0.75, "major": 0.25}
    assert (row["sha256"], row["size"], row["scored"]) == (hashlib.sha256(b"0.jpg").hexdigest(), 5, world.clock.time)
    refused = world.rows()["text.jpg", 1]
    assert (refused["label"], refused["refused"]) == (None, "not an image")
    assert 1 <= len(world.processes()) <= 2  # one for each of Spark's Python workers
    assert world.asked() == [f"{number}.jpg" for number in range(7)]
    made = DeltaTable(world.tables.uri(world.settings.tables.predictions))
    assert [field.metadata["comment"] for field in made.schema().fields] == [comment_of(field) for field in PREDICTIONS]

    world.photo("nowhere")
    (tmp_path / "photos" / "nowhere").rename(tmp_path / "nowhere")
    again = world.score()
    assert (again.found, again.scored, again.refused, world.asked()) == (10, 1, 0, ["nowhere"])
    assert world.score().predictions_version == again.predictions_version
    other = world.score(version=2)
    assert (other.scored, other.labels) == (8, {"major": 8})
    assert len(world.rows()) == 20
    assert [world.rows()["0.jpg", version]["classes"] for version in (1, 2)] == [None, '["minor", "major"]']
    assert [world.rows()["0.jpg", version]["review"] for version in (1, 2)] == [None, True]
    left = [line for line in caplog.messages if "left to this machine" in line]
    assert len(left) == (0 if name == DELTA_RS else 1)
    assert all(line.startswith("1 of 10 photos are left to this machine: Spark's machines cannot read some") for line in left)


def test_a_table_of_an_earlier_release_gets_the_columns_that_it_lacks(world):
    world.photo("0.jpg")
    world.score()
    before = world.tables.read(TABLE, PREDICTIONS.names)[0].drop_columns(list(ADDED))
    shutil.rmtree(world.tables.uri(TABLE))
    world.tables.merge(TABLE, before, KEY)
    assert world.score(version=2).scored == 1
    assert {version: row["review"] for (_, version), row in world.rows().items()} == {1: None, 2: True}


def test_what_sparks_machines_cannot_do_this_machine_does_and_says_so(tmp_path, sessions, monkeypatch, caplog):
    world = world_of(SPARK, tmp_path, sessions, monkeypatch)
    for number in range(3):
        world.photo(f"{number}.jpg")
    fresh = {"check_environment": "uv"}
    for version, (changed, why) in enumerate(
        [({"check_timeout": 0.01}, "ModelRefused: the model in .* gave no answer for 0.01 s"), (fresh, "needs an environment of its own")],
        1,
    ):
        tracking = world.settings.tracking.model_copy(update=changed)
        world.settings = world.settings.model_copy(update={"tracking": tracking})
        assert world.score(version=version).scored == 3
        [said] = [line for line in caplog.messages if "left to this machine" in line]
        assert re.search(f"3 of 3 photos are left to this machine: .*{why}", said)
        caplog.clear()
    world.photo("4.jpg")
    world.tables._files = Volume()
    assert world.score().scored == 1
    assert "1 of 1 photos are left to this machine: their folder is not mounted here" in caplog.text
    world.photo("5.jpg")
    world.tables._files = Folder()
    monkeypatch.setattr(spark_work, "HEAVIEST", 3)
    assert world.score(version=1).scored == 1
    assert "1 of 1 photos are left to this machine: 1 have more than 0 MiB" in caplog.text
    world.photo("6.jpg")
    monkeypatch.setattr(spark_work, "HEAVIEST", 1 << 20)
    monkeypatch.setattr(spark_answers, "LARGEST", 1)
    tracking = world.settings.tracking.model_copy(update={"check_environment": "this"})
    world.settings = world.settings.model_copy(update={"tracking": tracking})
    assert world.score(version=1).scored == 1
    assert "1 of 1 photos are left to this machine: the model has 0 MiB, and at most 0 MiB travel" in caplog.text


def test_a_task_opens_no_heavy_file_whose_size_nobody_knew(tmp_path):
    small, large = tmp_path / "small.jpg", tmp_path / "large.jpg"
    small.write_bytes(b"1234")
    with large.open("wb") as file:
        file.truncate(spark_answers.HEAVIEST + 1)
    paths, heavy = [str(small), str(large), str(tmp_path / "gone.jpg")], []
    batch = pa.record_batch({"paths": pa.array([paths]), "sizes": pa.array([[None] * 3], pa.list_(pa.int64()))})
    assert list(spark_answers._light([batch], heavy)) == [(paths[0], 4), (paths[2], None)]
    assert [row["path"] for row in heavy] == [paths[1]]


def test_answers_are_counted_from_mildest_to_worst_and_then_what_only_an_older_model_says(world):
    for label in ("wreck", "major", "minor", "moderate", "dent"):
        world.photo(label, f"says {label}".encode())
    assert list(world.score().labels) == ["minor", "moderate", "major", "dent", "wreck"]


def test_a_photo_that_was_overwritten_is_asked_about_again_and_its_row_replaced(world):
    world.photo("a.jpg", b"one")
    world.score()
    world.photo("a.jpg", b"another")
    assert world.score().scored == 1
    assert [row["sha256"] for row in world.rows().values()] == [hashlib.sha256(b"another").hexdigest()]


def test_a_photo_that_is_forgotten_between_two_chunks_gets_no_row(world):
    for number in range(7):
        world.photo(f"{number}.jpg")
    mark = Forgotten(mark_of(hashlib.sha256(b"6.jpg").hexdigest()), "Ann", world.clock.time)

    def forget(_step, done, *_):
        if done == 3:
            world.tables.merge(world.settings.tables.forgotten, row_of_mark(mark), MARK)

    SCORE.work(ScoreRequest("flow-run"), world, forget)
    assert sorted(name for name, _ in world.rows()) == [f"{number}.jpg" for number in range(6)]


def test_photos_of_a_table_are_told_by_their_paths(world):
    paths = [world.photo(f"{number}.jpg") for number in range(3)]
    table = "insurance_uc.claims.photos"
    world.tables.merge(table, pa.table({"id": [1, 2, 3, 4], "path": [*paths, paths[0]]}), ["id"])
    report = world.score(table)
    assert (report.source, report.found, report.scored) == (table, 3, 3)
    assert world.rows()["0.jpg", 1]["size"] is None
    assert world.score(table).scored == 0


def test_photos_of_a_folder_and_of_a_table_are_the_same_photos(world):
    paths = [world.photo(f"{number}.jpg") for number in range(2)]
    table = "insurance_uc.claims.photos"
    world.tables.merge(table, pa.table({"path": paths}), ["path"])
    assert (world.score().scored, world.score(table).scored, world.score().scored) == (2, 0, 0)


def test_an_empty_file_is_refused_and_ends_nothing(world):
    (world.settings.home / "photos" / "a-empty.jpg").touch()
    world.photo("b.jpg")
    report = world.score()
    assert (report.scored, report.refused, world.asked()) == (1, 1, ["b.jpg"])
    assert world.rows()["a-empty.jpg", 1]["refused"] == "empty"
    assert world.score().refused == 0


def test_a_folder_or_table_by_setting(tmp_path, engine, sessions, monkeypatch):
    world = world_of(engine, tmp_path, sessions, monkeypatch, source=str(tmp_path / "elsewhere"))
    world.photo("landed.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").write_bytes(b"a")
    assert (world.score().source, list(world.rows())) == (str(tmp_path / "elsewhere"), [("a.jpg", 1)])


def test_nothing_to_ask_starts_no_model_and_leaves_a_table(world, monkeypatch):
    monkeypatch.setattr(world.registry, "download", None)
    report = world.score()
    assert (report.found, report.scored, report.labels, report.predictions_version) == (0, 0, {}, 0)
    assert world.rows() == {}


def test_what_was_answered_before_a_model_ended_is_kept_chunk_by_chunk(world):
    for number in range(7):
        world.photo(f"{number}.jpg")
    world.photo("8.jpg", b"end")
    with pytest.raises(ModelRefused):
        world.score()
    assert sorted(name for name, _ in world.rows()) == [f"{number}.jpg" for number in range(6)]
    world.photo("8.jpg", b"mended")
    assert world.score().scored == 2
    assert len(world.rows()) == 8


def test_a_photo_that_cannot_be_read_is_reported_and_asked_about_by_the_next_run(world, caplog):
    paths = [world.photo(f"{number}.jpg") for number in range(3)]
    target = Path(paths[1]).rename(world.settings.home / "elsewhere.jpg")
    Path(paths[1]).symlink_to(world.settings.home / "gone.jpg")
    report = world.score()
    assert (report.scored, report.unreadable, report.unreadable_count) == (2, (paths[1],), 1)
    assert f"{paths[1]} does not exist" in caplog.text
    assert {name: row["sha256"] for (name, _), row in world.rows().items()} == {
        f"{number}.jpg": hashlib.sha256(f"{number}.jpg".encode()).hexdigest() for number in (0, 2)
    }
    target.rename(world.settings.home / "gone.jpg")
    assert world.score().scored == 1


def test_progress_is_told_chunk_by_chunk_to_the_last_photo(world):
    for number in range(7):
        world.photo(f"{number}.jpg")
    told = []
    SCORE.work(ScoreRequest("flow-run"), world, lambda step, done, total, message="": told.append((step, done, total, message)))
    assert told == [("score", done, 7, "version 1") for done in (0, 3, 6, 7)]


def test_what_cannot_be_asked_says_what_to_do(world):
    with pytest.raises(RegistryError, match="no version 9"):
        world.score(version=9)
    with pytest.raises(SettingsError, match="table with a column path"):
        world.score("insurance_uc.claims.nothing")
    with pytest.raises(SettingsError, match="/no/such/folder, the source to score, is no folder"):
        world.score("/no/such/folder")
    with pytest.raises(SettingsError, match="claims is no source to score: name a folder, with a /"):
        world.score("claims")
    world.registry.move("champion", None)
    with pytest.raises(Terminal, match="run retrain first, or name a version"):
        world.score()


def claims_of(world):
    rows, _ = world.tables.read(world.settings.tables.claims, CLAIMS.names)
    named = {"shown_by": lambda paths: [Path(path).name for path in paths], "undecided": lambda paths: [Path(path).name for path in paths]}
    return {
        (row["claim"], row["model_version"]): tuple(
            named.get(name, lambda value: value)(row[name]) for name in ("label", "review", "shown_by", "undecided")
        )
        for row in rows.to_pylist()
    }


@pytest.mark.parametrize("name", ENGINES)
def test_the_photos_of_a_folder_become_the_answer_for_a_claim_on_every_engine(name, tmp_path, sessions, monkeypatch):
    world = world_of(name, tmp_path, sessions, monkeypatch, claims="folder")
    for path in ("17/front.jpg", "17/rear/side.jpg", "18/a.jpg", "of no claim.jpg"):
        world.photo(path)
    refused = Path(world.photo("18/b.jpg", b"text"))
    report = world.score()
    assert (report.claims, report.claims_for_review) == (2, 1)
    first = {
        ("17", 1): ("minor", False, ["front.jpg", "side.jpg"], []),
        ("18", 1): ("minor", True, ["a.jpg"], ["b.jpg"]),
    }
    assert claims_of(world) == first
    again = world.score()
    assert (again.scored, again.claims, claims_of(world)) == (0, 2, first)
    refused.write_bytes(b"photo")
    assert world.score().claims_for_review == 0
    now = first | {("18", 1): ("minor", False, ["a.jpg", "b.jpg"], [])}
    assert claims_of(world) == now
    undecided = {("17", 2): (None, True, [], ["front.jpg", "side.jpg"]), ("18", 2): (None, True, [], ["a.jpg", "b.jpg"])}
    assert world.score(version=2).claims_for_review == 2
    assert claims_of(world) == now | undecided


def test_however_a_folder_is_written_it_has_the_same_claims(tmp_path, engine, sessions, monkeypatch):
    world = world_of(engine, tmp_path, sessions, monkeypatch, claims="folder")
    world.photo("17/front.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for source in (f"{tmp_path}/photos", "photos/", "./photos", "~/photos", f"{tmp_path}//photos/./"):
        report = world.score(source)
        assert (report.source, report.claims) == (f"{tmp_path}/photos", 1)
    assert world.tables.read(world.settings.tables.claims, ["source"])[0].num_rows == 1


def test_a_tables_column_says_which_photo_belongs_to_which_claims(world):
    minor, moderate = world.photo("a.jpg", b"says minor"), world.photo("b.jpg", b"says moderate")
    table = "insurance_uc.claims.photos"
    rows = {"id": [1, 2, 3, 4], "path": [minor, minor, moderate, moderate], "claim": ["17", "18", "18", None]}
    world.tables.merge(table, pa.table(rows), ["id"])
    assert (world.score(table).claims, claims_of(world)["17", 1][0], claims_of(world)["18", 1][0]) == (2, "minor", "moderate")
