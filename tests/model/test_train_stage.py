import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from car_damage.adapters.mlflow.client import client
from car_damage.adapters.mlflow.tracking import MlflowTracking
from car_damage.data.forgotten import mark_of
from car_damage.data.photos import groups
from car_damage.errors import PhotoChanged, RegistryError, TooFewPhotos, Unavailable
from car_damage.model.answering import Answering, Nonconformity, SizeWeights, needs_a_person
from car_damage.model.networks import export, startup
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality import plots
from car_damage.model.run_files import (
    ANSWERING_FILE,
    BASELINE_FILE,
    CONFUSION_MATRIX_FILE,
    EVALUATION_FILE,
    KERAS_FILE,
    PREDICTIONS_FILE,
    REPORT_FILE,
    SMOKE_PHOTO_FILE,
    TRAINED_FILE,
    WORST_MISTAKES_FILE,
    read_baseline,
    read_predictions,
    read_trained,
)
from car_damage.model.served.process import answers
from car_damage.packages import that_train_here_exactly
from car_damage.photo.decoder import decode
from car_damage.photo.limits import Limits
from car_damage.photo.preparation import Preparation
from car_damage.photo.signals import Signals, signals
from car_damage.pipeline import ForgetRequest, TrainReport, TrainRequest
from car_damage.platform import Target
from car_damage.ports import PACKAGES_TAG, WARM_START_TAG
from car_damage.settings import Labels, Serving, Settings
from car_damage.stage import Progress, silent
from car_damage.stages import train
from car_damage.stages.forget import STAGE as FORGET
from car_damage.stages.train import STAGE as TRAIN
from car_damage.stages.training import baselining, evaluating, warm_start
from car_damage.stages.training.baselining import UnseenPhotos
from car_damage.stages.training.evaluating import smoke_photo
from car_damage.stages.training.warm_start import Start
from deployments import demo_photos
from tests import fakes
from tests.model.conftest import CLASSES, World, build_world, home_in

Build = Callable[..., World]


def asked(world: World, **changes: Any) -> TrainRequest:
    return replace(TrainRequest("flow-1", world.silver_version, "f" * 64, "key-1"), bronze_version=3, **changes)


def runs(settings: Settings) -> dict[str, str]:
    """Run id -> status."""
    mlflow = client(settings)
    experiment = mlflow.get_experiment_by_name(settings.tracking.experiment)
    return {run.info.run_id: run.info.status for run in mlflow.search_runs([experiment.experiment_id])} if experiment else {}


ANSWERING = Answering(
    1.7,
    (SizeWeights(0, (1.0, 2.0, 0.5)),),
    0.8,
    (Nonconformity(9, tuple(np.linspace(0, 0.8, 9))), Nonconformity(3, (0.1, 0.2, 0.3)), Nonconformity(9, tuple(np.linspace(0, 0.9, 9)))),
)


class Killed(BaseException):
    """To the code under test, this is the end of the process."""


class Wrapped:
    """A port that raises an error when one of its methods has returned."""

    def __init__(self, port: Any, after: str, error: BaseException) -> None:
        self._port, self._after, self._error = port, after, error

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name != self._after:
            return method

        def then_stop(*given: Any, **named: Any) -> Any:
            method(*given, **named)
            raise self._error

        return then_stop


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> tuple[World, TrainReport]:
    folder = tmp_path_factory.mktemp("trained")
    built = build_world(folder, home_in(folder, mlflow_template), train=3, validation=1, test=2, classes=CLASSES)
    return built, TRAIN.work(asked(built), built.target, silent)


def test_a_run_has_everything_about_its_model(trained: tuple[World, TrainReport]) -> None:
    world, report = trained
    settings = world.target.settings
    mlflow = client(settings)
    run = mlflow.get_run(report.run_id)
    files = {file.path for file in mlflow.list_artifacts(report.run_id)}
    assert files == {
        "answering.json",
        "baseline.parquet",
        "reliability.png",
        "car_damage_classifier.keras",
        "car_damage_classifier.onnx",
        "confusion_matrix.png",
        "doubtful_labels.json",
        "doubtful_labels.png",
        "training_curve.png",
        "worst_mistakes.png",
        "evaluation.json",
        "report.html",
        "smoke_photo",
        "test_predictions.parquet",
        "trained_photos.parquet",
    }
    assert run.info.status == "FINISHED"
    wanted = {"training_key": "key-1", "flow_run": "flow-1", "silver_version": "0", "bronze_version": "3", "silver_fingerprint": "f" * 64}
    assert wanted.items() <= run.data.tags.items()
    assert run.data.tags["model_uri"] == report.model_uri
    assert {"test_calibration_error", "test_calibration_error_before", "test_review_share", "test_coverage_major"} <= set(report.metrics)
    assert {"test_accuracy", "validation_macro_f1", "epochs", "train_photos", "loss", "val_loss"} <= set(run.data.metrics)
    assert run.data.params["learning_rate"] == str(settings.training.learning_rate)
    assert not {"preparation_pixels", "preparation_quality"} & set(run.data.params)
    source = {"path": world.target.tables.uri(settings.tables.silver), "delta_table_version": 0}
    assert [json.loads(used.dataset.source) for used in run.inputs.dataset_inputs] == [source] * 3
    photos = {used.dataset.name: json.loads(used.dataset.profile)["num_rows"] for used in run.inputs.dataset_inputs}
    assert photos == {"silver-train": 9, "silver-validation": 3, "silver-test": 6}


def test_the_baseline_has_what_the_photos_look_like_and_what_is_answered_to_those_not_learned_from(
    trained: tuple[World, TrainReport],
) -> None:
    world, report = trained
    rows = read_baseline(world.target.tracking.fetch(report.run_id, BASELINE_FILE)).to_pylist()
    assert Counter(row["split"] for row in rows) == {"train": 9, "validation": 3, "test": 6}
    silver, _ = world.target.tables.read(world.target.settings.tables.silver, ["sha256", "path", "label", "width", "height"])
    photos = {row["sha256"]: row for row in silver.to_pylist()}
    predicted = {row["sha256"]: row for row in read_predictions(world.target.tracking.fetch(report.run_id, PREDICTIONS_FILE)).to_pylist()}
    for row in rows:
        photo = photos[row["sha256"]]
        assert {name: photo[name] for name in ("label", "width", "height")}.items() <= row.items()
        assert signals(decode(Path(photo["path"]).read_bytes()).pixels) == tuple(row[name] for name in Signals._fields)
        if row["split"] == "test":
            assert row["probability_minor"] == predicted[row["sha256"]]["probability_minor"]
        assert (row["review"] is None) == (row["probability_minor"] is None) == (row["split"] == "train")


def test_a_baseline_is_a_sample_with_room_for_photos_that_were_not_learned_from() -> None:
    def photos(name: str, count: int) -> Photos:
        hashes = tuple(f"{name}{number}" for number in range(count))
        return Photos(np.zeros((count, 8, 8, 3), np.uint8), np.zeros(count, np.int64), hashes, hashes)

    parts = photos("train", 9_000), photos("validation", 3_000), photos("test", 1_500)
    sha256s = [sha256 for part in parts for sha256 in part.sha256s]
    sizes = pa.table({"sha256": sha256s, "width": [8] * len(sha256s), "height": [8] * len(sha256s)})
    answered = [UnseenPhotos(part.sha256s[0][:-1], part, np.tile([1.0, 0.0], (len(part), 1))) for part in parts[1:]]
    made = baselining.baseline(parts[0], answered, Answering(), sizes, ("minor", "major"))
    assert Counter(made["split"].to_pylist()) == {"train": 1_000, "validation": 667, "test": 334}
    few = baselining.baseline(photos("train", 100), answered, Answering(), sizes.append_column("x", sizes["width"]), ("minor", "major"))
    assert Counter(few["split"].to_pylist()) == {"train": 100, "validation": 1_267, "test": 634}


def test_the_smoke_photo_is_one_of_the_test_photos_and_the_model_s_example(trained: tuple[World, TrainReport], tmp_path: Path) -> None:
    world, report = trained
    tracking = world.target.tracking
    photo = tracking.fetch(report.run_id, SMOKE_PHOTO_FILE)
    predicted = read_predictions(tracking.fetch(report.run_id, PREDICTIONS_FILE))
    assert hashlib.sha256(photo).hexdigest() in predicted["sha256"].to_pylist()
    model = world.target.registry.download(report.model_uri, tmp_path)
    example = json.loads((model / "serving_input_example.json").read_text())
    assert base64.b64encode(photo).decode() in str(example)


@pytest.mark.parametrize(("limit", "chosen"), [(1 << 20, b"x" * 9000), (4096 + 8000, b"y" * 5000), (4096, b"x" * 9000)])
def test_the_smoke_photo_is_the_first_that_a_request_can_hold_or_the_first_of_all(limit: int, chosen: bytes) -> None:
    given = {"/landing/1.jpg": b"x" * 9000, "/landing/2.jpg": b"y" * 5000}
    shas = tuple(hashlib.sha256(data).hexdigest() for data in given.values())
    test = Photos(np.zeros((2, 1, 1, 3), np.uint8), np.zeros(2, np.int64), shas, tuple(given))
    settings = Settings(serving=Serving(max_request_bytes=limit))
    platform: Any = fakes.World(settings, fakes.Photos(given), fakes.Versions(), fakes.Endpoint({}), fakes.Runs({}))
    assert smoke_photo(platform, test) == chosen


def test_a_run_keeps_the_list_of_the_photos_that_it_has_seen_and_of_no_test_photo(trained: tuple[World, TrainReport]) -> None:
    world, report = trained
    listed = read_trained(world.target.tracking.fetch(report.run_id, TRAINED_FILE)).to_pylist()
    wanted = [row for row in world.rows.to_pylist() if row["split"] != "test"]
    names = ("sha256", "phash", "label", "split")
    assert len(listed) == 12
    assert sorted(tuple(row[name] for name in names) for row in listed) == sorted(tuple(row[name] for name in names) for row in wanted)


def test_predictions_name_each_test_photo_and_agree_with_the_report(trained: tuple[World, TrainReport]) -> None:
    world, report = trained
    predictions = read_predictions(world.target.tracking.fetch(report.run_id, PREDICTIONS_FILE))
    expected = {(row["sha256"], row["path"], row["label"]) for row in world.rows.to_pylist() if row["split"] == "test"}
    assert {(row["sha256"], row["path"], row["label"]) for row in predictions.to_pylist()} == expected
    probabilities = np.column_stack([predictions[f"probability_{name}"] for name in CLASSES])
    assert [CLASSES[number] for number in probabilities.argmax(axis=1)] == predictions["predicted"].to_pylist()
    right = np.mean([row["label"] == row["predicted"] for row in predictions.to_pylist()])
    assert report.metrics["test_accuracy"] == pytest.approx(right)
    scores = json.loads(world.target.tracking.fetch(report.run_id, EVALUATION_FILE))
    assert [score["support"] for score in scores["test"]["classes"]] == [2, 2, 2]
    figures = {figure["name"]: figure for figure in scores["figures"]}
    assert figures["accuracy"]["value"] == pytest.approx(right)
    assert figures["accuracy"]["interval"][0] <= right <= figures["accuracy"]["interval"][1]
    assert (scores["groups"], scores["small_groups"]) == ([], 1)


def test_the_report_of_a_run_shows_its_scores_and_photos(trained: tuple[World, TrainReport]) -> None:
    world, report = trained
    page = world.target.tracking.fetch(report.run_id, REPORT_FILE).decode()
    for part in (
        f"{report.metrics['test_macro_f1']:.3f}",
        f"{report.metrics['test_log_loss']:.3f}",
        "0, as it should be",
        "training.epochs",
    ):
        assert part in page
    assert ">train</td><td class=number>3</td>" in page
    wrong = read_predictions(world.target.tracking.fetch(report.run_id, PREDICTIONS_FILE)).to_pylist()
    assert page.count("<figure>") == sum(row["label"] != row["predicted"] for row in wrong)


def test_the_logged_keras_file_answers_as_the_predictions_say(trained: tuple[World, TrainReport], tmp_path: Path) -> None:
    startup.import_quietly()
    import keras

    world, report = trained
    file = tmp_path / "again.keras"
    file.write_bytes(world.target.tracking.fetch(report.run_id, "car_damage_classifier.keras"))
    network = keras.saving.load_model(file, safe_mode=True)
    predictions = read_predictions(world.target.tracking.fetch(report.run_id, PREDICTIONS_FILE))
    photos = np.stack([decode(Path(path).read_bytes()).pixels for path in predictions["path"].to_pylist()])
    saved = np.column_stack([predictions[f"probability_{name}"] for name in CLASSES])
    assert np.asarray(network(photos)) == pytest.approx(saved, abs=1e-5)


def test_the_same_key_trains_nothing_and_reports_the_same(trained: tuple[World, TrainReport]) -> None:
    world, report = trained
    before = runs(world.target.settings)
    target = Target(world.target.settings)
    target._tables = Wrapped(world.target.tables, "read", Killed())  # type: ignore[assignment]  # a second read fails the test
    assert TRAIN.work(asked(world), target, silent) == report
    assert runs(world.target.settings) == before


def test_train_again_trains_the_same_model_in_a_run_of_its_own(trained: tuple[World, TrainReport]) -> None:
    world, report = trained
    again = TRAIN.work(asked(world, train_again=True, training_key="key-2"), world.target, silent)
    assert again.run_id != report.run_id
    assert again.metrics == pytest.approx(report.metrics, abs=1e-4)
    # A retry by the same flow run, as after a fault, finds this training. Another flow run trains once more.
    assert TRAIN.work(asked(world, train_again=True, training_key="key-2"), world.target, silent) == again
    other = TRAIN.work(asked(world, train_again=True, training_key="key-2", flow_run="flow-2"), world.target, silent)
    assert other.run_id != again.run_id


def test_a_run_of_another_pillow_is_trained_again_with_this_one(trained: tuple[World, TrainReport]) -> None:
    world, _ = trained
    before = TRAIN.work(asked(world, training_key="key-3"), world.target, silent)
    noted = re.sub(r"pillow==.*", "pillow==1.0", that_train_here_exactly())
    client(world.target.settings).set_tag(before.run_id, PACKAGES_TAG, noted)
    after = TRAIN.work(asked(world, training_key="key-3"), world.target, silent)
    assert after.run_id != before.run_id
    assert TRAIN.work(asked(world, training_key="key-3"), world.target, silent) == after


def noted_answer(world: World, report: TrainReport) -> tuple[str, list[float]]:
    """Path and probabilities of the first test photo in the run's predictions."""
    row = read_predictions(world.target.tracking.fetch(report.run_id, PREDICTIONS_FILE)).to_pylist()[0]
    return row["path"], [row[f"probability_{name}"] for name in CLASSES]


def assert_answers_as_noted(world: World, report: TrainReport, folder: Path) -> None:
    """The registered model answers in its own process as its run has noted."""
    path, noted = noted_answer(world, report)
    model = world.target.registry.download(report.model_uri, folder)
    [answer] = answers(model, [Path(path).read_bytes()], timeout=120)
    assert list(answer.probabilities.values()) == pytest.approx(noted, abs=1e-5)
    assert Answering.read(model / "artifacts" / ANSWERING_FILE) == ANSWERING
    probabilities = np.array([noted])
    assert answer.classes == tuple(np.array(CLASSES)[ANSWERING.sets(probabilities)[0]])
    assert answer.review is bool(needs_a_person(ANSWERING.sets(probabilities), probabilities)[0])
    network = OnnxNetwork(onnx) if (onnx := next((model / "artifacts").glob("*.onnx"), None)) else None
    if network:
        said = network(decode(Path(path).read_bytes()).pixels[None])
        assert said[0] != pytest.approx(noted, abs=1e-3)
        assert ANSWERING.calibrated(said, [1])[0] == pytest.approx(noted, abs=1e-5)


def test_a_model_whose_network_cannot_be_exported_answers_by_keras_and_its_run_says_why(
    trained: tuple[World, TrainReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: Any, file: Path) -> None:
        file.write_bytes(b"half of a network")
        raise NotImplementedError("no such layer")

    monkeypatch.setattr(export, "write", fail)
    monkeypatch.setattr(evaluating, "fitted", lambda *_: ANSWERING)
    world, _ = trained
    steps: list[str] = []
    report = TRAIN.work(asked(world, training_key="key-4"), world.target, lambda *step: steps.append(str(step)))
    mlflow = client(world.target.settings)
    params = mlflow.get_run(report.run_id).data.params
    assert (params["answers_by"], params["why_keras"]) == ("keras", "NotImplementedError: no such layer")
    assert any(params["why_keras"] in step for step in steps)
    assert not [file.path for file in mlflow.list_artifacts(report.run_id) if file.path.endswith(".onnx")]
    assert "tensorflow" in world.target.registry.requirements(report.model_uri)
    assert_answers_as_noted(world, report, tmp_path)


def test_a_warm_start_has_the_weights_of_the_champion_and_the_run_s_tag_names_it(trained: tuple[World, TrainReport]) -> None:
    world, report = trained
    settings = world.target.settings
    target = warm(world)
    assert warm_start.start_of(world.target, None) == Start()
    assert warm_start.start_of(target, None) == Start(said="no version: there is no champion")
    version = target.registry.create(report.run_id, report.model_uri, {}, "a network").version
    target.registry.move("champion", version)
    again = TRAIN.work(asked(world, training_key="warm"), target, silent)
    assert client(settings).get_run(again.run_id).data.tags[WARM_START_TAG] == f"version {version}, run {report.run_id}"
    before, after = (_severity(world, of.run_id) for of in (report, again))
    assert np.allclose(before, after, atol=1e-5)
    gone = Target(target.settings.model_copy(update={"labels": Labels(classes=("minor", "moderate", "major", "total"))}))
    assert warm_start.start_of(gone, None).said == f"not version {version}, run {report.run_id}: its network is another one"
    target.registry.move("champion", None)


def warm(world: World) -> Target:
    training = world.target.settings.training.model_copy(update={"warm_start": "champion", "epochs": 1, "learning_rate": 1e-9})
    return Target(world.target.settings.model_copy(update={"training": training}))


def test_who_starts_from_weights_that_learned_from_a_photo_is_named_when_it_is_forgotten_and_nobody_starts_from_it(
    world: Build,
) -> None:
    """Also if the photo was gone from silver before the training that started from them."""
    built = world()
    target, registry, tracking = warm(built), built.target.registry, built.target.tracking
    reports = [TRAIN.work(asked(built), target, silent)]
    versions = [registry.create(reports[0].run_id, reports[0].model_uri, {}, "").version]
    registry.move("champion", versions[0])
    left = next(row for row in built.rows.to_pylist() if row["split"] == "train")
    target.tables.merge(target.settings.tables.silver, built.rows.slice(0, 0), ["sha256"], remove=pa.table({"sha256": [left["sha256"]]}))
    Path(left["path"]).unlink()
    later = asked(built, training_key="key-2", silver_version=target.tables.read(target.settings.tables.silver, ["path"])[1])
    reports.append(TRAIN.work(later, target, silent))
    versions.append(registry.create(reports[1].run_id, reports[1].model_uri, {}, "").version)
    listed = [read_trained(tracking.fetch(of.run_id, TRAINED_FILE))["sha256"].to_pylist() for of in reports]
    assert (set(listed[1]), len(listed[1])) == (set(listed[0]), len(listed[0]))
    noted = ForgetRequest("flow-2", mark_of(left["sha256"]), note_only=True)
    FORGET.work(noted, target, silent)
    forgotten = f"not version {versions[0]}, run {reports[0].run_id}: it has learned from a photo that is forgotten"
    assert warm_start.start_of(target, None) == Start(said=forgotten)
    assert FORGET.work(replace(noted, note_only=False), target, silent).versions == tuple(versions)
    assert warm_start.start_of(target, None) == Start(said=forgotten)
    registry.move("champion", versions[1])
    assert "a photo that is forgotten" in warm_start.start_of(target, None).said


def _severity(world: World, run_id: str) -> np.ndarray:
    """The kernel of the last layer of a run's network."""
    import keras

    file = world.folder.parent / f"{run_id}.keras"
    file.write_bytes(world.target.tracking.fetch(run_id, KERAS_FILE))
    return keras.saving.load_model(file, compile=False, safe_mode=True).get_layer("severity").get_weights()[0]  # type: ignore[no-any-return]


def test_a_model_with_int8_answers_as_it_was_evaluated(
    trained: tuple[World, TrainReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluating, "fitted", lambda *_: ANSWERING)
    world, plain = trained
    settings = world.target.settings
    small = Target(settings.model_copy(update={"training": settings.training.model_copy(update={"int8": True})}))
    report = TRAIN.work(asked(world, training_key="key-5"), small, silent)
    assert client(settings).get_run(report.run_id).data.params["answers_by"] == "onnxruntime"
    files, as_plain = ({file.path for file in client(settings).list_artifacts(run.run_id)} for run in (report, plain))
    assert files == as_plain
    assert_answers_as_noted(world, report, tmp_path)
    assert noted_answer(world, report)[1] != pytest.approx(noted_answer(world, plain)[1], abs=1e-6)


def test_a_model_with_a_common_resolution_answers_by_the_preparation_that_it_has_learnt(world: Build, tmp_path: Path) -> None:
    built = world(train=4, test=2)  # ten JPEGs or more, and silver says that each photo has 320x240 pixels
    settings = built.target.settings
    training = settings.training.model_copy(update={"resolution": "common"})
    report = TRAIN.work(asked(built), Target(settings.model_copy(update={"training": training})), silent)
    params = client(settings).get_run(report.run_id).data.params
    learnt = Preparation(int(params["preparation_pixels"]), int(params["preparation_quality"]))
    assert learnt.pixels == 77_936  # 320x240, rounded
    assert learnt.quality in range(82, 94)  # that of the drawn photos
    predictions = read_predictions(built.target.tracking.fetch(report.run_id, PREDICTIONS_FILE)).to_pylist()
    photos = [Path(row["path"]).read_bytes() for row in predictions]
    noted = np.array([[row[f"probability_{name}"] for name in CLASSES] for row in predictions])
    model = built.target.registry.download(report.model_uri, tmp_path / "model")
    served = np.array([[*answer.probabilities.values()] for answer in answers(model, photos, timeout=120)])
    assert served == pytest.approx(noted, abs=1e-5)
    network = OnnxNetwork(next((model / "artifacts").glob("*.onnx")))
    prepared, plain = (
        network(np.stack([decode(photo, Limits(), preparation).pixels for photo in photos])) for preparation in (learnt, Preparation())
    )
    assert prepared == pytest.approx(noted, abs=1e-5)
    assert np.abs(plain - noted).max() > 1e-4


@pytest.mark.parametrize("after", ["start", "log"])
def test_a_run_killed_before_it_is_finished_is_trained_again(world: Build, after: str) -> None:
    built = world()
    target = built.target
    target.tracking = Wrapped(MlflowTracking(target.settings), after, Killed())  # type: ignore[assignment]
    with pytest.raises(Killed):
        TRAIN.work(asked(built), target, silent)
    (left,) = runs(target.settings)
    target.tracking = MlflowTracking(target.settings)
    report = TRAIN.work(asked(built), target, silent)
    assert runs(target.settings) == {left: "KILLED", report.run_id: "FINISHED"}


def test_a_run_killed_after_it_is_finished_is_found(world: Build) -> None:
    built = world()
    target = built.target
    target.tracking = Wrapped(MlflowTracking(target.settings), "finish", Killed())  # type: ignore[assignment]
    with pytest.raises(Killed):
        TRAIN.work(asked(built), target, silent)
    target.tracking = MlflowTracking(target.settings)
    TRAIN.work(asked(built), target, silent)
    assert list(runs(target.settings).values()) == ["FINISHED"]


def test_an_error_marks_the_run_as_failed_and_goes_on(world: Build) -> None:
    built = world()
    target = built.target
    target.tracking = Wrapped(MlflowTracking(target.settings), "log", Unavailable("the disk is away"))  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="the disk is away"):
        TRAIN.work(asked(built), target, silent)
    ((run_id, status),) = runs(target.settings).items()
    assert status == "FAILED"
    assert client(target.settings).get_run(run_id).data.tags["failure"] == "Unavailable: the disk is away"


def test_a_photo_that_changed_since_validation_is_left_out_and_named(world: Build) -> None:
    built = world()
    changed = built.folder / "moderate" / "2.jpg"
    changed.write_bytes(demo_photos.photo("moderate", 999))
    report = TRAIN.work(asked(built), built.target, silent)
    assert (report.left_out, report.left_out_count) == ((str(changed),), 1)
    sha256 = next(row["sha256"] for row in built.rows.to_pylist() if row["path"] == str(changed))
    learnt = read_trained(built.target.tracking.fetch(report.run_id, TRAINED_FILE))["sha256"].to_pylist()
    answered = read_predictions(built.target.tracking.fetch(report.run_id, PREDICTIONS_FILE))["sha256"].to_pylist()
    assert {*learnt, *answered} == set(built.rows["sha256"].to_pylist()) - {sha256}


def test_a_run_that_left_photos_out_does_not_stand_for_all_and_is_found_while_they_are_away(world: Build) -> None:
    built = world()
    away = built.folder / "moderate" / "2.jpg"
    photo = away.read_bytes()
    away.unlink()
    report = TRAIN.work(asked(built), built.target, silent)
    again = TRAIN.work(asked(built), built.target, silent)
    assert (again.run_id, again.left_out, again.left_out_count) == (report.run_id, (str(away),), 1)
    assert built.target.tracking.run_for(asked(built).training_key, {}) is None
    away.write_bytes(photo)
    whole = TRAIN.work(asked(built), built.target, silent)
    assert (whole.run_id != report.run_id, whole.left_out_count) == (True, 0)


def test_when_most_photos_cannot_be_used_nothing_is_trained(world: Build) -> None:
    built = world()
    for path in built.rows["path"].to_pylist()[: built.rows.num_rows // 2 + 1]:
        Path(path).unlink()
    with pytest.raises(PhotoChanged, match=r"of the \d+ photos cannot be used"):
        TRAIN.work(asked(built), built.target, silent)
    assert runs(built.target.settings) == {}


def test_a_split_whose_photos_are_all_left_out_is_too_few_photos(world: Build) -> None:
    built = world()
    for row in built.rows.to_pylist():
        if row["split"] == "validation":
            Path(row["path"]).unlink()
    with pytest.raises(TooFewPhotos, match="none of them in the split validation"):
        TRAIN.work(asked(built), built.target, silent)


def cached(world: World, photos: int) -> Target:
    """The same target, with room on disk for this number of decoded photos."""
    images = world.target.settings.images.model_copy(update={"cache_bytes": photos * 224 * 224 * 3})
    return Target(world.target.settings.model_copy(update={"images": images}))


def test_more_photos_than_the_disk_has_room_for_train_the_same_model_without_a_plot_that_fails(
    trained: tuple[World, TrainReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, report = trained

    def fail(*given: Any) -> bytes:
        raise KeyError("a bug in a plot")

    monkeypatch.setattr(plots, "worst_mistakes", fail)
    monkeypatch.setattr(groups, "MIN_PHOTOS", 6)  # so that a group has a score
    again = TRAIN.work(asked(world, training_key="little room"), cached(world, 4), silent)
    assert again.run_id != report.run_id
    of_group = {"test_macro_f1_group_size_thumbnail": report.metrics["test_macro_f1"]}
    of_group |= {"test_worst_group_macro_f1": report.metrics["test_macro_f1"]}
    assert again.metrics == pytest.approx(report.metrics | of_group)
    scores = json.loads(world.target.tracking.fetch(again.run_id, EVALUATION_FILE))
    assert [(group["name"], group["photos"]) for group in scores["groups"]] == [("size_thumbnail", 6)]
    assert world.target.tracking.fetch(again.run_id, CONFUSION_MATRIX_FILE)
    with pytest.raises(RegistryError):
        world.target.tracking.fetch(again.run_id, WORST_MISTAKES_FILE)


def during_the_training(change: Callable[[], object]) -> Progress:
    """Calls the function after the first epoch."""

    def progress(step: str, done: int, *_: object) -> None:
        if (step, done) == ("epoch", 1):
            change()

    return progress


@pytest.mark.parametrize("split", train.SPLITS)
def test_a_photo_without_room_on_disk_that_goes_during_the_training_is_left_out(world: Build, split: str) -> None:
    built = world(train=3, validation=2, test=2)
    gone = next(row for row in built.rows.to_pylist() if row["split"] == split)
    report = TRAIN.work(asked(built), cached(built, 0), during_the_training(Path(gone["path"]).unlink))
    assert (report.left_out, report.left_out_count) == ((gone["path"],), 1)
    answered = read_predictions(built.target.tracking.fetch(report.run_id, PREDICTIONS_FILE))["sha256"].to_pylist()
    tested = {row["sha256"] for row in built.rows.to_pylist() if row["split"] == "test"}
    assert set(answered) == tested - {gone["sha256"]}
    learnt = read_trained(built.target.tracking.fetch(report.run_id, TRAINED_FILE))["sha256"].to_pylist()
    assert (gone["sha256"] in learnt) == (split != "test")  # an epoch has seen it


def test_a_photo_that_is_alone_in_its_batch_and_goes_does_not_end_the_training(world: Build) -> None:
    built = world(train=3, validation=2, test=2)  # nine training photos: a batch of eight, and one
    gone = next(row for row in built.rows.to_pylist() if row["split"] == "train")
    target = cached(built, 0)
    target.settings = target.settings.model_copy(update={"training": target.settings.training.model_copy(update={"batch_size": 1})})
    report = TRAIN.work(asked(built), target, during_the_training(Path(gone["path"]).unlink))
    assert report.left_out == (gone["path"],)


def test_a_run_that_lost_photos_does_not_stand_for_all(world: Build) -> None:
    built = world(train=3, validation=2, test=2)
    gone = next(row for row in built.rows.to_pylist() if row["split"] == "train")
    report = TRAIN.work(asked(built), cached(built, 0), during_the_training(Path(gone["path"]).unlink))
    assert built.target.tracking.run_for(asked(built).training_key, {}) is None
    found = built.target.tracking.run_for(report.training_key, {})
    assert found is not None
    assert found.run_id == report.run_id


def test_when_most_photos_go_during_the_training_it_stops(world: Build) -> None:
    built = world(train=3, validation=2, test=2)

    def remove() -> None:
        for path in built.rows["path"].to_pylist():
            Path(path).unlink()

    with pytest.raises(PhotoChanged, match="was validated but is gone"):
        TRAIN.work(asked(built), cached(built, 0), during_the_training(remove))
    assert list(runs(built.target.settings).values()) == ["FAILED"]


def test_the_pinned_version_is_read_and_no_later_one(world: Build) -> None:
    built = world()
    silver = built.target.settings.tables.silver
    built.target.tables.merge(silver, built.rows.slice(0, 0), ["sha256"], remove=built.rows.select(["sha256"]).slice(0, 5))
    report = TRAIN.work(asked(built), built.target, silent)
    assert report.metrics["train_photos"] == 9


@pytest.mark.parametrize("split", train.SPLITS)
def test_an_empty_split_is_named(world: Build, split: str) -> None:
    built = world(**{"train": 1, "validation": 1, "test": 1, split: 0})
    with pytest.raises(TooFewPhotos, match=f"none of them in the split {split}"):
        TRAIN.work(asked(built), built.target, silent)


def test_training_photos_of_one_class_are_too_few(world: Build) -> None:
    built = world(classes=["minor"])
    with pytest.raises(TooFewPhotos, match="all of them minor"):
        TRAIN.work(asked(built), built.target, silent)


def test_a_table_that_is_not_there_is_too_few_photos(world: Build) -> None:
    built = world()
    built.target.settings = built.target.settings.model_copy(
        update={"tables": built.target.settings.tables.model_copy(update={"silver": "a.b.nothing"})}
    )
    with pytest.raises(TooFewPhotos, match="0 photos"):
        TRAIN.work(asked(built, silver_version=-1), built.target, silent)
