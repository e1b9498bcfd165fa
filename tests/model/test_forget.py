"""What a training keeps of a photo: found for an audit, removed when it is forgotten, and everything else of the training stays."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from car_damage.cli import app
from car_damage.commands.audit import audit
from car_damage.commands.forget import forget
from car_damage.data.answers.inference_log import INFERENCE_LOG
from car_damage.data.answers.predictions import KEY, PREDICTIONS
from car_damage.errors import RegistryError, RequestRefused
from car_damage.model import run_files
from car_damage.model.run_files import PREDICTIONS_FILE, SMOKE_PHOTO_FILE, TRAINED_FILE, WORST_MISTAKES_FILE, read_trained
from car_damage.model.served.process import answers
from car_damage.moves import DONE, PROMOTION, Intention
from car_damage.pipeline import ScoreRequest, ValidateRequest
from car_damage.platform import Target
from car_damage.ports import BRONZE_TAG, CHAMPION, FLOW_RUN_TAG, KEY_TAG, SILVER_TAG, RunContents, Where
from car_damage.settings import Databricks, Settings
from car_damage.stage import silent
from car_damage.stages.score import STAGE as SCORE
from car_damage.stages.validate import STAGE as VALIDATE
from car_damage.stages.versions.swap import smoke_photo
from car_damage.traces.account import account
from car_damage.traces.rows import HASH, PATH
from deployments import demo_photos
from tests.fakes import sha256
from tests.model.conftest import CLASSES
from tests.searched import found


@dataclass
class Known:
    """A home with three landed photos, and a version that learned from the first and was tested on the others."""

    target: Target
    run: str
    photos: dict[str, bytes]
    """Path -> bytes."""

    @property
    def home(self) -> Path:
        return self.target.settings.home

    def named(self, number: int) -> tuple[str, bytes]:
        return list(self.photos.items())[number]

    def fetch(self, file: str) -> bytes:
        return self.target.tracking.fetch(self.run, file)


@pytest.fixture
def known(home: Path, tmp_path: Path, contents: RunContents) -> Known:
    target = Target(Settings(home=home))
    photos = {}
    for number in range(3):
        path = home / "landing" / "minor" / f"p{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(demo_photos.photo("minor", number))
        photos[str(path)] = path.read_bytes()
    VALIDATE.work(ValidateRequest("night"), target, silent)
    (learned, *tested) = [{"sha256": sha256(data), "path": path, "label": "minor"} for path, data in photos.items()]
    folder, (_, example, _) = contents.folder, photos.values()
    trained = pa.Table.from_pylist(
        [learned | {"phash": 1, "split": "train"}, {**learned, "sha256": "e" * 64, "phash": 2, "split": "train"}]
    )
    answered = [
        row | {"predicted": "major", "probability_minor": 0.2, "probability_moderate": 0.3, "probability_major": 0.5} for row in tested
    ]
    for name, rows in {TRAINED_FILE: trained, PREDICTIONS_FILE: pa.Table.from_pylist(answered)}.items():
        (folder / name).write_bytes(run_files.write_trained(rows))
    (folder / WORST_MISTAKES_FILE).write_bytes(b"a contact sheet")
    (folder / SMOKE_PHOTO_FILE).write_bytes(example)
    pictures = {row["path"]: base64.b64encode(photos[row["path"]]).decode() for row in tested}
    figures = "".join(f'<figure><img src="{picture}"><span title="{path}"></figure>' for path, picture in pictures.items())
    (folder / "report.html").write_text(f"<h1>Report</h1>{figures}<p>The end.")
    (folder / "doubts.json").write_text(json.dumps({"doubts": [{"sha256": row["sha256"], "doubt": 0.5} for row in (learned, *tested)]}))
    run = target.tracking.start(
        "cnn", {KEY_TAG: "key", SILVER_TAG: "7", BRONZE_TAG: "5", "silver_table": "silver", "silver_fingerprint": "f" * 64}
    )
    uri = target.tracking.log(run, replace(contents, example=example))
    target.tracking.finish(run, uri)
    tags = {"decision": "promote", "judged_against": "none", "decision_reasons": "it is the first", "test_macro_f1": "0.8"}
    target.registry.create(run, uri, tags, "")
    target.registry.move(CHAMPION, 1)
    target.history.close(target.history.begin(Intention(PROMOTION, 1, None, "it is the first", "retrain, by Ann", "night")), DONE)
    return Known(target, run, photos)


def left(known: Known, data: bytes) -> list[str]:
    return found(known.home, {"hash": sha256(data).encode(), "bytes": data}, but=("landing",))


def test_a_photo_that_a_version_has_learned_from_leaves_its_lists_and_the_version_is_named(known: Known, tmp_path: Path) -> None:
    _, data = known.named(0)
    printed: list[str] = []
    report = forget(known.target, sha256(data), "Ann", tmp_path, printed.append)
    assert (report.versions, report.underway, left(known, data)) == ((1,), (), [])
    assert read_trained(known.fetch(TRAINED_FILE))["sha256"].to_pylist() == ["e" * 64]
    assert len(json.loads(known.fetch("doubts.json"))["doubts"]) == 2
    assert known.fetch("report.html").count(b"<figure>") == 2
    assert any("version 1" in line and "cannot unlearn" in line for line in printed)
    assert f"the deployment forget does both, with the parameter photo=mark:{report.mark}" in printed[-1]
    document, page = (tmp_path / f"forgotten-{report.mark[:12]}{end}" for end in (".json", ".html"))
    assert json.loads(document.read_text())["versions"] == [1]
    assert sha256(data) not in document.read_text() + page.read_text()
    assert "version 1" in page.read_text()


def test_the_photo_for_testing_an_endpoint_is_replaced_by_another_test_photo_and_the_model_s_example_too(
    known: Known, tmp_path: Path
) -> None:
    (_, data), (_, other) = known.named(1), known.named(2)
    assert smoke_photo(known.target, known.target.registry.get(1)).photo == data
    copy = known.home / "endpoint" / "models" / "model.1"
    known.target.registry.download("models:/insurance_uc.models.car_damage_classifier/1", copy)
    assert forget(known.target, sha256(data), "Ann", tmp_path, print).files == (known.named(1)[0],)
    assert left(known, data) == []
    assert smoke_photo(known.target, known.target.registry.get(1)).photo == other
    assert known.fetch("report.html").count(b"<figure>") == 1
    assert b"The end." in known.fetch("report.html")
    with pytest.raises(RegistryError):
        known.fetch(WORST_MISTAKES_FILE)
    model = known.target.registry.download("models:/insurance_uc.models.car_damage_classifier/1", tmp_path / "model")
    example = json.loads((model / "serving_input_example.json").read_text())["dataframe_split"]["data"][0][0]
    assert base64.b64decode(example) == other
    for folder in (model, copy):
        example = json.loads((folder / "serving_input_example.json").read_text())["dataframe_split"]["data"][0][0]
        assert len(answers(folder, [base64.b64decode(example)], 60)) == 1, "the model can still be tried with its example"


def test_what_a_killed_training_has_written_half_goes_with_the_first_photo_that_is_forgotten(known: Known, tmp_path: Path) -> None:
    _, data = known.named(2)
    killed = known.target.tracking.start("cnn", {KEY_TAG: "other", FLOW_RUN_TAG: "cancelled"})
    half = {SMOKE_PHOTO_FILE: data[: len(data) // 2], "report.html": b'<h1>Report</h1><figure><img src="data:image/jpeg;base64,AAAA'}
    folder = tmp_path / "half"
    for name, some in {**half, "curve.json": b"{}"}.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(some)
    MlflowClient(known.target.settings.tracking_uri).log_artifacts(killed, str(folder))
    known.target.tracking.abandon("cancelled")
    report = forget(known.target, sha256(data), "Ann", tmp_path, print)
    assert {trace.what for trace in report.found if trace.run == killed} == set(half)
    for name in half:
        with pytest.raises(RegistryError):
            known.target.tracking.fetch(killed, name)
    assert known.target.tracking.fetch(killed, "curve.json") == b"{}"
    assert known.fetch("report.html").count(b"<figure>") == 1, "of a training that has finished only the photo goes"


def test_the_last_test_photo_leaves_a_version_that_has_to_be_tested_in_another_way(known: Known, tmp_path: Path) -> None:
    for number in (1, 2):
        forget(known.target, known.named(number)[0], "Ann", tmp_path, print)
        assert left(known, known.named(number)[1]) == []
    with pytest.raises(RegistryError, match="smoke_photo"):
        smoke_photo(known.target, known.target.registry.get(1))


def test_an_account_tells_the_way_from_the_photo_to_who_took_the_version_live_and_replays_its_answers(known: Known) -> None:
    path, data = known.named(1)
    SCORE.work(ScoreRequest("scoring"), known.target, silent)
    lines: list[str] = []
    same = audit(known.target, path, replay=True, as_json=False, say=lines.append)
    assert same, "\n".join(lines)
    told = "\n".join(lines)
    for wanted in (f"photo {sha256(data)}", f"file {path}: valid", "by run night", "by version 1", known.run):
        assert wanted in told
    for wanted in (
        "silver version 7, made from bronze version 5",
        "training key key",
        "decision: promote, against version none: it is the first",
        "promotion, done",
    ):
        assert wanted in told
    assert "by retrain, by Ann" in told
    assert [line for line in lines if "replay" in line] == [f"  replay: version 1 to {path}: the same answer"]

    changed, at = known.target.tables.read(PREDICTIONS_TABLE, PREDICTIONS.names)
    [row] = [row for row in changed.to_pylist() if row["path"] == path]
    asked_for_more = {name: row[name] for name in ("model_version", "label", "probability", "probabilities", "review", "sha256")} | {
        "request_id": "one",
        "answered": row["scored"],
        "classes": json.dumps(CLASSES),
    }
    log = known.target.settings.tables.inference_log
    known.target.tables.merge(log, pa.Table.from_pylist([asked_for_more], INFERENCE_LOG), ["request_id"])
    lines.clear()
    assert audit(known.target, path, replay=True, as_json=False, say=lines.append)
    assert "  replay: version 1 to one: the same answer" in lines, "a request may have asked for another coverage"
    other = {"probabilities": '{"minor": 1.0, "moderate": 0.0, "major": 0.0}', "classes": '["nothing"]'}
    rows = [row | other for row in changed.to_pylist() if row["path"] == path]
    known.target.tables.merge(PREDICTIONS_TABLE, pa.Table.from_pylist(rows, PREDICTIONS), KEY)
    printed: list[str] = []
    assert not audit(known.target, sha256(data), replay=True, as_json=True, say=printed.append)
    document = json.loads(printed[0])
    assert "a probability differs" in document["replayed"][0]["why"]
    assert document["replayed"][0]["why"].endswith("and it excludes other classes")
    assert (document["sha256"], document["files"][0]["path"], document["versions"][0]["version"]) == (sha256(data), path, 1)
    assert at >= 0


PREDICTIONS_TABLE = "insurance_uc.gold.predictions"


def test_an_account_reads_whole_rows_of_its_photo_only(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    read, whole = known.target.tables.read, []

    def noted(table: str, columns: Sequence[str], *given: Any, where: Where | None = None, **more: Any) -> Any:
        if where is None and not set(columns) <= {HASH, PATH}:
            whole.append(table)
        return read(table, columns, *given, where=where, **more)

    monkeypatch.setattr(known.target.tables, "read", noted)
    found = account(sha256(known.named(1)[1]), known.target)
    assert [file["path"] for file in found.files] == [known.named(1)[0]]
    assert set(whole) == {known.target.settings.tables.claims, known.target.settings.tables.forgotten}, "which have no column sha256"


def test_an_account_says_what_is_not_kept(known: Known, tmp_path: Path) -> None:
    lines: list[str] = []
    assert audit(known.target, "a" * 64, replay=True, as_json=False, say=lines.append)
    assert [line.strip() for line in lines[1:]] == [
        "not kept: bronze has no file with this content: it never landed, or its rows were removed",
        "not kept: no table keeps an answer to it",
    ]
    _, data = known.named(0)
    forget(known.target, sha256(data), "Ann", tmp_path, print)
    lines.clear()
    audit(known.target, sha256(data), replay=False, as_json=False, say=lines.append)
    assert "the photo was forgotten: asked for" in lines[-1]
    assert lines[-1].endswith("by Ann")


def test_commands_refuse_what_is_no_photo_and_what_only_jobs_can_do(known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestRefused, match="neither a file nor"):
        audit(known.target, "nothing.jpg", replay=False, as_json=False, say=print)
    jobs = Target(Settings(home=known.home, databricks=Databricks(stages="jobs")))
    with pytest.raises(RequestRefused, match="deployment forget"):
        forget(jobs, "a" * 64, "Ann", tmp_path, print)
    monkeypatch.setenv("CAR_DAMAGE_HOME", str(known.home))
    asked = CliRunner().invoke(app, ["forget", "a" * 64], input="n\n")
    assert asked.exit_code == 1
    assert not (known.home / "tables" / "insurance_uc" / "silver" / "forgotten").exists()
