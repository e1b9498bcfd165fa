"""The network transfer, from photos on disk to the registered model, with a small backbone that the test makes."""

import contextlib
import hashlib
import json
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import real_photos
from benchmarks.trials_features import WEIGHTS
from car_damage.adapters.folder import Folder
from car_damage.adapters.mlflow.client import client
from car_damage.adapters.mlflow.trials import PARENT_TAG
from car_damage.data.people.desk import Desk
from car_damage.data.people.doubts import parse
from car_damage.data.photos.features import FEATURES, KEY, rows
from car_damage.errors import ModelRefused, SettingsError, Terminal, WeightsMissing
from car_damage.model import places
from car_damage.model.networks import applications, backbone, export, heads, onnx_parts, startup
from car_damage.model.networks.activation import with_places
from car_damage.model.networks.seer import Seer
from car_damage.model.networks.tuning import fine_tuning
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.evaluation import evaluate
from car_damage.model.run_files import (
    BASELINE_FILE,
    DOUBTS_FILE,
    OUT_OF_FOLD_FILE,
    PREDICTIONS_FILE,
    REPORT_FILE,
    read_baseline,
    read_predictions,
)
from car_damage.model.served.process import answers
from car_damage.pipeline import RegisterRequest, TrainReport, TrainRequest, training_key
from car_damage.platform import Target
from car_damage.ports import CHAMPION, FEATURES_TAG, WARM_START_TAG
from car_damage.settings import Answers, Settings, Training
from car_damage.stage import silent
from car_damage.stages.train import STAGE as TRAIN
from car_damage.stages.training import search, seeing, transfer, warm_start
from car_damage.stages.versions import judging
from tests.model.conftest import CLASSES, World, build_world, home_in

TABLE = "insurance_uc.silver.features"


def network(file: Path, seed: int = 1, *, side: int | None = 224, dtype: str = "uint8", dropped: str = "", bias: float = 0) -> Path:
    """A small backbone with random weights as a .keras file: pixels (n, side, side, 3) -> maps (n, h, w, 8)."""
    startup.import_quietly()
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    photo = keras.Input((side, side, 3), dtype=dtype)
    initial = keras.initializers.Constant(bias)
    maps = layers.Conv2D(8, 16, strides=16, activation="relu", bias_initializer=initial)(layers.Rescaling(1 / 127.5, -1)(photo))
    last = {"": maps, "pooled": layers.GlobalMaxPooling2D()(maps), "lambda": layers.Lambda(lambda given: given)(maps)}[dropped]
    keras.Model(photo, last).save(file)
    return file


def rescaling_of(file: Path) -> str:
    """The name of the first layer of such a backbone."""
    import keras

    return next(layer.name for layer in keras.saving.load_model(file, compile=False).layers if isinstance(layer, keras.layers.Rescaling))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(tmp_path_factory.mktemp("backbone") / "small.keras")


def using(file: Path | str, **training: Any) -> Training:
    return Training(network="transfer", backbone=str(file), **training)


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    world: World
    report: TrainReport


def asked(world: World, **changes: Any) -> TrainRequest:
    return replace(TrainRequest("flow-1", world.silver_version, "f" * 64, "key-1"), **changes)


def with_training(world: World, training: Training) -> World:
    return replace(world, target=Target(world.target.settings.model_copy(update={"training": training})))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path, weights: Path) -> Trained:
    folder = tmp_path_factory.mktemp("transfer")
    world = build_world(folder, home_in(folder, mlflow_template), train=6, validation=2, test=2, classes=CLASSES)
    world = with_training(world, using(weights))
    desk = Answers(corrections=str(folder / "corrections"), keep_for_review=str(folder / "kept"))
    world = replace(world, target=Target(world.target.settings.model_copy(update={"answers": desk})))
    return Trained(world, TRAIN.work(asked(world), world.target, silent))


def kept(world: World) -> pa.Table:
    return world.target.tables.read(TABLE, FEATURES.names)[0]


def test_a_run_has_the_network_its_evidence_and_what_cross_validation_said(trained: Trained) -> None:
    run = client(trained.world.target.settings).get_run(trained.report.run_id)
    files = {file.path for file in client(trained.world.target.settings).list_artifacts(trained.report.run_id)}
    assert {"car_damage_classifier.keras", "car_damage_classifier.onnx", "confusion_matrix.png", OUT_OF_FOLD_FILE} <= files
    assert "training_curve.png" not in files
    report = trained.world.target.tracking.fetch(trained.report.run_id, REPORT_FILE).decode()
    assert all(f"<td class=number>{share}</td>" in report for share in ("25%", "50%", "75%", "100%"))
    assert run.data.params["answers_by"] == "onnxruntime"
    assert {"cross_validation_macro_f1", "head_strength", "features", "test_macro_f1"} <= set(run.data.metrics)
    assert run.data.tags[FEATURES_TAG] == backbone.load(trained.world.target.settings.training, Folder()).digest


def test_out_of_fold_probabilities_are_kept_for_each_training_photo(trained: Trained) -> None:
    predicted = read_predictions(trained.world.target.tracking.fetch(trained.report.run_id, OUT_OF_FOLD_FILE))
    silver = trained.world.rows.filter(pa.compute.equal(trained.world.rows["split"], "train"))
    labels = dict(zip(silver["sha256"].to_pylist(), silver["label"].to_pylist(), strict=True))
    assert dict(zip(predicted["sha256"].to_pylist(), predicted["label"].to_pylist(), strict=True)) == labels
    probabilities = np.column_stack([predicted[f"probability_{name}"] for name in CLASSES])
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(labels)))


def test_labels_that_look_wrong_are_in_the_run_and_asked_on_the_review_desk(trained: Trained) -> None:
    target = trained.world.target
    doubts = parse(target.tracking.fetch(trained.report.run_id, DOUBTS_FILE))
    assert (doubts.among, len(doubts.photos)) == (30, 2), "all photos, the training photos out of fold; 4 % of them"
    labels = dict(zip(trained.world.rows["sha256"].to_pylist(), trained.world.rows["label"].to_pylist(), strict=True))
    desk = Desk(target.files, target.settings.answers, target.clock)
    waits = {one.sha256: one for one in desk.waiting()}
    assert {sha256: (one.labelled, one.answer.label) for sha256, one in waits.items()} == {
        one.sha256: (labels[one.sha256], one.says) for one in doubts.photos
    }
    assert all(hashlib.sha256(desk.photo(sha256) or b"").hexdigest() == sha256 for sha256 in waits)


def test_the_registered_model_takes_the_file_of_a_photo_and_answers_as_it_was_evaluated(trained: Trained, tmp_path: Path) -> None:
    target = trained.world.target
    predicted = read_predictions(target.tracking.fetch(trained.report.run_id, PREDICTIONS_FILE)).to_pylist()
    model = target.registry.download(trained.report.model_uri, tmp_path)
    [answer] = answers(model, [Path(predicted[0]["path"]).read_bytes()], timeout=120)
    assert answer.probabilities == pytest.approx({name: predicted[0][f"probability_{name}"] for name in CLASSES}, abs=1e-6)


def test_each_training_photo_has_a_row_for_each_view_and_the_next_training_computes_none(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(trained.world)
    assert before.num_rows == 18 * 2 + 6 + 6 + 6  # only training photos need a mirror image, and test photos are seen by Keras, too
    assert before.group_by(list(KEY)).aggregate([]).num_rows == before.num_rows
    for of, name in ((backbone.Backbone, "features"), (Seer, "of"), (export, "write")):
        monkeypatch.setattr(of, name, lambda *_, name=name: pytest.fail(f"{name} was called again"))
    TRAIN.work(asked(trained.world, training_key="key-2"), trained.world.target, silent)
    assert kept(trained.world).equals(before)


def test_the_same_table_and_seed_give_the_same_weights(trained: Trained) -> None:
    import keras

    again = TRAIN.work(asked(trained.world, training_key="key-3"), trained.world.target, silent)
    folder = Path(trained.world.target.settings.home)
    first, second = (
        trained.world.target.tracking.fetch(run, "car_damage_classifier.keras") for run in (trained.report.run_id, again.run_id)
    )
    loaded = []
    for number, data in enumerate((first, second)):
        file = folder / f"{number}.keras"
        file.write_bytes(data)
        loaded.append(keras.saving.load_model(file, compile=False, safe_mode=True).get_weights())
    assert all(np.array_equal(one, other) for one, other in zip(*loaded, strict=True))


def test_a_run_says_what_fine_tuning_gained_and_which_champion_it_has_started_from(trained: Trained, weights: Path) -> None:
    target, registry = trained.world.target, trained.world.target.registry
    registry.move("champion", registry.create(trained.report.run_id, trained.report.model_uri, {}, "frozen").version)
    tuning = {"fine_tune": "if_better", "fine_tune_from": rescaling_of(weights), "fine_tune_epochs": 1, "warm_start": "champion"}
    world = with_training(trained.world, using(weights, **tuning))
    run = client(target.settings).get_run(TRAIN.work(asked(world, training_key="key-5"), world.target, silent).run_id)
    champion = f"version 1, run {trained.report.run_id}"
    assert run.data.metrics["fine_tuned"] == 0
    assert run.data.tags[WARM_START_TAG] == f"not {champion}: fine-tuning was not kept"
    assert run.data.metrics["fine_tuning_gain_low"] <= run.data.metrics["fine_tuning_gain"]
    more = with_training(world, using(weights, **tuning, layers=(rescaling_of(weights),)))
    start = warm_start.start_of(more.target, backbone.load(more.target.settings.training, Folder()))
    assert (start.network, start.said) == (None, f"not {champion}: its network is another one")


@pytest.mark.parametrize("head", ["ordinal", "softmax"])
def test_a_fine_tuning_that_wins_starts_from_a_champion_with_the_head_that_the_search_has_chosen_and_from_no_other(
    trained: Trained, weights: Path, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, run_id = trained.world.target.registry, trained.report.run_id
    version = registry.create(run_id, trained.report.model_uri, {}, "ordinal").version
    registry.move("champion", version)
    monkeypatch.setattr(search, "MOST", 2)
    monkeypatch.setattr(search, "best", lambda training, _: training.model_copy(update={"head": head}))
    monkeypatch.setattr(fine_tuning.Verdict, "wins", property(lambda _: True))
    monkeypatch.setattr(fine_tuning.Verdict, "epochs", property(lambda _: 1))
    tuning = {"fine_tune": "if_better", "fine_tune_from": rescaling_of(weights), "fine_tune_epochs": 1}
    world = with_training(trained.world, using(weights, **tuning, warm_start="champion", search_minutes=1))
    run = client(world.target.settings).get_run(TRAIN.work(asked(world, training_key=f"search-{head}"), world.target, silent).run_id)
    champion = f"version {version}, run {run_id}"
    assert run.data.tags[WARM_START_TAG] == (champion if head == "ordinal" else f"not {champion}: its network is another one")
    assert (run.data.metrics["fine_tuned"], run.data.params["head"]) == (1, head)


def test_a_search_tries_settings_on_the_features_that_are_there_and_the_run_has_the_best(
    trained: Trained, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST", 4)
    world = with_training(trained.world, using(weights, search_minutes=1))
    before, mlflow = kept(world), client(world.target.settings)
    run = mlflow.get_run(TRAIN.work(asked(world, training_key="key-6"), world.target, silent).run_id)
    trials = mlflow.search_runs([run.info.experiment_id], f"tags.`{PARENT_TAG}` = '{run.info.run_id}'")
    assert 1 <= len(trials) <= 4
    lowest = min(trial.data.metrics["loss"] for trial in trials)
    assert run.data.metrics["cross_validation_loss"] == pytest.approx(lowest)
    best = min(trials, key=lambda trial: (trial.data.metrics["loss"], trial.info.run_name))
    assert {name: run.data.params[name] for name in ("head", "components")} == {
        name: best.data.params[name] for name in ("head", "components")
    }
    assert kept(world).equals(before)


def test_damaged_rows_are_computed_again_and_foreign_ones_are_left_alone(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept(trained.world)
    digest = before["digest"][0].as_py()
    photos = before["sha256"].to_pylist()[:2]
    damaged = rows(digest, photos[:1], "plain", np.zeros((1, 3), np.float32))
    foreign = rows("f" * 64, photos[1:], "plain", np.full((1, 8), 9, np.float32))
    trained.world.target.tables.merge(TABLE, pa.concat_tables([damaged, foreign]), KEY)
    reading, read = type(trained.world.target.tables).read, set()

    def noting(self: Any, name: str, *given: Any, **named: Any) -> Any:
        found, version = reading(self, name, *given, **named)
        read.update(found["digest"].to_pylist() if name == TABLE else ())
        return found, version

    with monkeypatch.context() as patched:
        patched.setattr(type(trained.world.target.tables), "read", noting)
        TRAIN.work(asked(trained.world, training_key="key-4"), trained.world.target, silent)
    assert read == {digest}
    by_key = [("digest", "ascending"), ("sha256", "ascending"), ("view", "ascending")]
    after = kept(trained.world).filter(pa.compute.equal(kept(trained.world)["digest"], digest))
    assert after.sort_by(by_key).equals(before.sort_by(by_key))
    transfer.remove(transfer.superfluous(trained.world.target, {digest}), trained.world.target)
    assert kept(trained.world).sort_by(by_key).equals(before.sort_by(by_key))


class Killed(BaseException):
    """To the code under test, this is the end of the process."""


def test_a_training_that_is_killed_before_or_after_a_write_of_features_goes_on_where_it_ended(
    world: Callable[..., World], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_training(world(train=3, validation=1, test=1), using(weights))
    monkeypatch.setattr(seeing, "CHUNK", 2)
    merge, computed = type(here.target.tables).merge, Seer.of
    calls: list[int] = []

    def count(self: Seer, pixels: Any) -> Any:
        seen = computed(self, pixels)
        calls.append(seen.shape[0] * seen.shape[1])
        return seen

    monkeypatch.setattr(Seer, "of", count)
    for then_stop_at, after in ((2, False), (2, True)):
        merges = 0

        def stopping(*given: Any, stop: int = then_stop_at, late: bool = after, **named: Any) -> Any:
            nonlocal merges
            merges += 1
            if merges == stop and not late:
                raise Killed
            done = merge(*given, **named)
            if merges == stop:
                raise Killed
            return done

        with monkeypatch.context() as patched:
            patched.setattr(type(here.target.tables), "merge", stopping)
            with pytest.raises(Killed):
                TRAIN.work(asked(here), here.target, silent)
    TRAIN.work(asked(here), here.target, silent)
    table = kept(here)
    assert table.num_rows == 18 + 3 + 3 + 3  # of validation and test photos the plain view, and of test photos the one by Keras
    assert table.group_by(list(KEY)).aggregate([]).num_rows == table.num_rows
    assert sum(calls) == 18 + 3 + 3 + 2  # the two photos of the chunk that was computed and not written


def test_a_training_reads_only_the_photos_that_it_shows_and_one_whose_file_is_gone_trains_if_its_features_are_there(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rows_ = trained.world.target, trained.world.rows
    train, validation = (rows_.filter(pa.compute.equal(rows_["split"], split))["path"].to_pylist() for split in ("train", "validation"))
    fresh, gone = Path(train[0]), Path(train[1])
    hashes = dict(zip(rows_["path"].to_pylist(), rows_["sha256"].to_pylist(), strict=True))
    keys = kept(trained.world).select(list(KEY))
    forget = keys.filter(pa.compute.equal(keys["sha256"], hashes[str(fresh)]))
    target.tables.merge(TABLE, FEATURES.empty_table(), KEY, remove=forget)
    contents = {path: path.read_bytes() for path in (fresh, gone)}
    read: list[str] = []
    reading = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, path: read.append(path) or reading(self, path))
    gone.unlink()
    try:
        again = TRAIN.work(asked(trained.world, training_key="key-gone"), target, silent)
        shown = {photo.path for photo in parse(target.tracking.fetch(again.run_id, DOUBTS_FILE)).photos}
        assert (again.left_out, str(fresh) in read, set(read) & set(train) - shown - {str(fresh)}) == ((), True, set())
        assert set(read) & set(validation) <= shown
        before, looks = (read_baseline(target.tracking.fetch(run, BASELINE_FILE)) for run in (trained.report.run_id, again.run_id))
        signals = ("sha256", "brightness", "sharpness", "warmth")
        assert before.select(signals).sort_by("sha256").equals(looks.select(signals).sort_by("sha256"))
        of = {split: looks.filter(pa.compute.equal(looks["split"], split)) for split in ("train", "test")}
        assert [of["train"][name].null_count for name in ("width", "brightness")] == [0, len(train)]
        assert [of["test"][name].null_count for name in ("width", "brightness")] == [0, 0]
        fresh.unlink()
        target.tables.merge(TABLE, FEATURES.empty_table(), KEY, remove=forget)
        assert TRAIN.work(asked(trained.world, training_key="key-fresh"), target, silent).left_out == (str(fresh),)
    finally:
        for path, data in contents.items():
            path.write_bytes(data)
    assert TRAIN.work(asked(trained.world, training_key="key-whole"), target, silent).left_out == ()


def test_an_exported_network_that_answers_otherwise_than_keras_for_one_test_photo_is_refused(trained: Trained) -> None:
    by_keras = kept(trained.world).filter(pa.compute.equal(kept(trained.world)["view"], seeing.BY_KERAS))
    row = by_keras.slice(0, 1)
    other = rows(
        row["digest"][0].as_py(), row["sha256"].to_pylist(), seeing.BY_KERAS, np.array(row["features"].to_pylist(), np.float32) + 0.1
    )
    trained.world.target.tables.merge(TABLE, other, KEY)
    try:
        with pytest.raises(ModelRefused, match="differ by"):
            TRAIN.work(asked(trained.world, training_key="key-other"), trained.world.target, silent)
    finally:
        trained.world.target.tables.merge(TABLE, row, KEY)


def test_keras_computes_on_this_machine_what_cannot_be_exported_or_does_not_travel_and_the_run_says_so(
    world: Callable[..., World], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_training(world(train=2, validation=1, test=1), using(weights))
    told: list[str] = []

    def refuse(*_: Any) -> Any:
        raise Terminal("too large to travel")

    monkeypatch.setattr(type(here.target.tables), "each", refuse)
    TRAIN.work(asked(here), here.target, lambda *given: told.append(given[-1]))
    assert any("too large to travel" in message for message in told)
    by_onnx = kept(here)

    def fail(*_: Any) -> None:
        raise ValueError("no such function in ONNX")

    monkeypatch.setattr(export, "write", fail)
    monkeypatch.setattr(onnx_parts, "backbone_of", lambda *_: None)
    report = TRAIN.work(asked(here, training_key="key-2"), here.target, lambda *given: told.append(given[-1]))
    assert any("no such function in ONNX" in message for message in told)
    run = client(here.target.settings).get_run(report.run_id)
    by_keras = kept(here).filter(pa.compute.equal(kept(here)["digest"], run.data.tags[FEATURES_TAG]))
    assert (run.data.params["answers_by"], by_onnx.num_rows, by_keras.num_rows) == ("keras", 12 + 3 + 3 + 3, 12 + 3 + 3)
    assert run.data.tags[FEATURES_TAG] not in by_onnx["digest"].to_pylist()


@pytest.mark.parametrize("by", ["onnx", "keras"])
def test_features_that_are_no_numbers_are_refused(
    world: Callable[..., World], tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no such function in ONNX")

    here = with_training(world(train=2, validation=1, test=1), using(network(tmp_path / "backbone.keras", bias=float("nan"))))
    if by == "keras":
        monkeypatch.setattr(export, "write", fail)
    monkeypatch.setattr(backbone, "_difference", lambda *_: 0.0)  # as if other photos had been compared
    with pytest.raises(ModelRefused, match="features that are no numbers"):
        TRAIN.work(asked(here), here.target, silent)


@pytest.mark.parametrize("kind", ["ordinal", "softmax"])
def test_a_head_behind_the_exported_backbone_answers_as_by_keras_and_the_backbone_can_be_taken_out_again(weights: Path, kind: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    seen = backbone.load(using(weights), Folder())
    seen = seen.exported([], lambda: pixels)
    assert seen.onnx is not None
    outputs = 2 if kind == "ordinal" else 3
    random = np.random.default_rng(1)
    head = heads.Head(random.normal(size=(8, outputs)).astype(np.float32), random.normal(size=outputs).astype(np.float32), kind)
    whole = onnx_parts.with_head(seen.onnx, head)
    by_onnx = OnnxNetwork(whole)(pixels)
    assert by_onnx == pytest.approx(np.asarray(head.on(seen.network)(pixels)), abs=1e-6)
    assert by_onnx == pytest.approx(head.probabilities(seen.features(pixels)), abs=1e-6)
    taken = onnx_parts.backbone_of(whole, seen.digest)
    assert taken is not None
    assert np.array_equal(OnnxNetwork(taken)(pixels), OnnxNetwork(seen.onnx)(pixels))
    assert OnnxNetwork(onnx_parts.with_head(taken, head))(pixels) == pytest.approx(by_onnx)
    assert onnx_parts.backbone_of(whole, "another") is None


def test_the_key_and_the_digest_follow_the_content_of_the_file_and_not_its_path(weights: Path, tmp_path: Path) -> None:
    copied, other = tmp_path / "copied.keras", network(tmp_path / "other.keras", seed=2)
    copied.write_bytes(weights.read_bytes())
    key, moved, changed = (training_key("data", Settings(training=using(file))) for file in (weights, copied, other))
    assert key == moved != changed
    digest, moved, changed = (backbone.load(using(file), Folder()).digest for file in (weights, copied, other))
    assert digest == moved != changed
    assert training_key("data", Settings()) == training_key("data", Settings(training=Training(backbone=str(tmp_path / "none.keras"))))


def test_a_backbone_of_another_size_and_type_takes_the_decoder_s_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    for number, shape in enumerate(({"side": 64, "dtype": "float32"}, {"side": None}, {"dropped": "pooled"})):
        seen = backbone.load(using(network(tmp_path / f"{number}.keras", **shape)), Folder())  # type: ignore[arg-type]
        assert seen.features(pixels).shape == (3, 8)


def test_means_of_more_layers_are_features_too_and_give_another_digest(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    file = network(tmp_path / "backbone.keras")
    first = rescaling_of(file)
    plain, more = (backbone.load(using(file, layers=names), Folder()) for names in ((), (first,)))
    seen = more.features(pixels)
    assert (seen.shape, plain.digest == more.digest) == ((3, 8 + 3), False)
    assert np.array_equal(seen[:, :8], plain.features(pixels))
    assert seen[:, 8:] == pytest.approx(pixels.mean(axis=(1, 2)) / 127.5 - 1, abs=1e-4)
    with pytest.raises(SettingsError, match="names nothing, and the backbone has no such layer"):
        backbone.load(using(file, layers=("nothing",)), Folder())


@pytest.mark.parametrize("bad", ["lambda", "no file", "corrupt", "classifier", "unknown name"])
def test_what_is_no_backbone_is_refused_with_what_to_do(bad: str, tmp_path: Path) -> None:
    file: Path | str = tmp_path / "backbone.keras"
    wanted = r"must be a \.keras file without Lambda"
    if bad == "lambda":
        network(Path(file), dropped="lambda")
    elif bad == "corrupt":
        network(Path(file))
        data = bytearray(Path(file).read_bytes())
        Path(file).write_bytes(data[: len(data) // 2])
    elif bad == "classifier":
        import keras

        keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save(file)
    elif bad == "no file":
        wanted = "there is no such file: copy it there"
    else:
        file, wanted = "ResNet9000", r"it must be a \.keras file, or one of .*EfficientNetV2B0"
    with pytest.raises(SettingsError, match=wanted):
        backbone.load(using(file), Folder())


def test_weights_that_cannot_be_had_are_told_before_the_night(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"MobileNetV2 cannot be had: .*set training.backbone to the .keras file"):
        backbone.check(using("MobileNetV2"), Folder(), here=True)
    with pytest.raises(SettingsError, match="took more than 1 s"):
        applications.fetch("MobileNetV2", 1)


def test_a_server_that_does_not_answer_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As behind a firewall that drops what is sent: a full queue of connections, whose next one waits."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as waiting:
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(proxy, f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setattr(applications, "CONNECT", 1)
        with pytest.raises(WeightsMissing, match="no server answered within 1 s"):
            applications.fetch("MobileNetV2", 60)


def test_weights_that_keras_has_are_opened_without_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    startup.import_quietly()
    import keras

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    kept = tmp_path / "models" / "mobilenet.weights.h5"
    kept.parent.mkdir()
    network = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(224, 224, 3))
    network.save_weights(kept)
    (kept.parent / "MobileNet.car-damage.txt").write_text(f"{kept}\n{kept.stat().st_size}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    found, _ = applications.of_keras(using("MobileNet"), Folder(), 1)
    assert all(np.array_equal(one, other) for one, other in zip(found.get_weights(), network.get_weights(), strict=True))


def test_auto_trains_a_cnn_where_weights_are_away_and_finds_it_again_until_photos_change(
    world: Callable[..., World], weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def away(name: str, _seconds: int) -> Path:
        looked.append(name)
        raise WeightsMissing("no way out")

    monkeypatch.setattr(applications, "fetch", away)
    here = with_training(world(train=3, validation=1, test=1), Training(network="auto", backbone="MobileNet", epochs=1))
    request = asked(here, training_key="transfer-1", fallback_key="cnn-1")
    report = TRAIN.work(request, here.target, silent)
    run = client(here.target.settings).get_run(report.run_id)
    assert (report.training_key, report.network, run.data.tags["network"]) == ("cnn-1", "cnn", "cnn")
    assert {name: run.data.params[name] for name in ("network", "network_asked", "network_why")} == {
        "network": "cnn",
        "network_asked": "auto",
        "network_why": "no way out",
    }
    assert client(here.target.settings).get_logged_model(report.model_uri.removeprefix("models:/")).name.endswith("-cnn")
    assert replace(TRAIN.work(request, here.target, silent), metrics=report.metrics) == report
    assert looked == ["MobileNet"]
    there = with_training(here, Training(network="auto", backbone=str(weights), resolution="common"))
    later = TRAIN.work(asked(there, training_key="transfer-2", fallback_key="cnn-2"), there.target, silent)
    assert (later.training_key, later.network) == ("transfer-2", "transfer")
    assert "preparation_pixels" in client(there.target.settings).get_run(later.run_id).data.params
    assert_both_are_judged_on_the_same_files(there, report, later)


def assert_both_are_judged_on_the_same_files(world: World, champion: TrainReport, candidate: TrainReport) -> None:
    """A cnn is live, and a transfer model with another preparation is to replace it: each answers as after its own training."""
    target = world.target
    target.tables.merge(target.settings.tables.splits, world.rows.select(["sha256", "phash", "split"]), ["sha256"])
    live, new = (target.registry.create(one.run_id, one.model_uri, {}, "") for one in (champion, candidate))
    target.registry.move(CHAMPION, live.version)
    request = RegisterRequest("flow-1", candidate.run_id, candidate.model_uri, world.silver_version)
    evidence = judging.judge(judging.read_test_photos(request, target), new, live, target, silent).decision.evidence
    confusions = []
    for report in (champion, candidate):
        predicted = read_predictions(target.tracking.fetch(report.run_id, PREDICTIONS_FILE))
        said = np.column_stack([predicted[f"probability_{name}"] for name in CLASSES])
        truth = np.array([CLASSES.index(label) for label in predicted["label"].to_pylist()])
        confusions.append([list(row) for row in evaluate(truth, said, CLASSES).confusion])
    assert evidence.champion is not None
    assert [evidence.champion.confusion, evidence.candidate.confusion] == confusions
    assert evidence.test_photos == 3


def test_a_check_tells_what_a_training_will_find(weights: Path) -> None:
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert backbone.check(using(weights), Folder(), here=True) == f"{weights} (sha256 {sha[:12]}): 8 features of a photo"
    assert "not opened here" in backbone.check(using(weights), Folder(), here=False)
    assert "not needed" in backbone.check(Training(), Folder(), here=True)


@pytest.mark.parametrize(("name", "module"), [("MobileNetV2", "mobilenet_v2"), ("ResNet50", "resnet"), ("DenseNet121", "densenet")])
def test_preprocessing_inside_the_network_is_that_of_keras(name: str, module: str) -> None:
    startup.import_quietly()
    import keras

    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    photo = keras.Input((16, 16, 3))
    ours = keras.Model(photo, applications.preprocessed(photo, applications.mode(name)))
    theirs = getattr(keras.applications, module).preprocess_input(pixels.astype(np.float32))
    assert np.asarray(ours(pixels.astype(np.float32))) == pytest.approx(theirs, abs=1e-4)
    assert applications.mode("ResNet50V2") == "tf"
    assert applications.mode("MobileNetV3Small") == "none"


def test_every_name_of_keras_has_a_mode() -> None:
    startup.import_quietly()
    import keras

    assert not [name for name in dir(keras.applications) if name[:1].isupper() and not applications.mode(name)]
    json.dumps([applications.mode("VGG16")])


@dataclass(frozen=True)
class Real:
    """A head on real weights, fitted to real photos."""

    seen: backbone.Backbone
    train: Photos
    fitted: heads.Fitted
    validation: Photos


@pytest.fixture(scope="module")
def real(place: Path) -> Real:
    seen = backbone.load(using(place.parent / WEIGHTS), Folder())
    train, validation = (real_photos.photos(place / part, each) for part, each in (("train", 120), ("val", 60)))
    fitted = heads.fit(seen.features(train.pixels)[:, None], train.labels, np.arange(len(train)), 3, "ordinal", 1)  # type: ignore[arg-type]
    return Real(seen, train, fitted, validation)


def test_on_real_photos_a_head_on_real_weights_is_better_than_a_cnn_that_has_seen_five_times_as_many(real: Real) -> None:
    score = evaluate(real.validation.labels, real.fitted.head.probabilities(real.seen.features(real.validation.pixels)), CLASSES)  # type: ignore[arg-type]
    assert score.macro_f1 > 0.68
    assert real.fitted.out_of_fold is not None
    assert evaluate(real.train.labels, real.fitted.out_of_fold, CLASSES).macro_f1 > 0.66


def test_real_damage_that_is_pasted_into_a_corner_is_seen_there(real: Real, tmp_path: Path) -> None:
    """The middle of a photo of major damage on a grey ground, in each corner. Chance would find a quarter."""
    network = real.fitted.head.on(real.seen.network)
    export.write(with_places(network) or network, tmp_path / "network.onnx")
    exported = OnnxNetwork(tmp_path / "network.onnx")
    ground = np.repeat(np.linspace(110, 150, 224, dtype=np.uint8), 224)[:, None].repeat(3, axis=1).reshape(224, 224, 3)
    found = []
    for photo in real.validation.pixels[real.validation.labels == 2][:15]:
        for down, right in ((0, 0), (0, 112), (112, 0), (112, 112)):
            pasted = ground.copy()
            pasted[down : down + 112, right : right + 112] = photo[56:168, 56:168]
            said = exported.places(pasted[None])
            assert said is not None
            seen = places.from_network(said[0], int(exported(pasted[None])[0].argmax()))
            row, column = np.unravel_index(seen.argmax(), seen.shape)
            middle = ((row + 0.5) * 224 / seen.shape[0], (column + 0.5) * 224 / seen.shape[1])
            found.append(down <= middle[0] < down + 112 and right <= middle[1] < right + 112)
    assert np.mean(found) > 0.8
