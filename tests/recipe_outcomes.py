"""What the code of a checkout makes of the same photos and numbers: whatever RECIPE stands for, each part small.

`tests.recipe` compares two checkouts by it. The first word of an outcome's name
is the part that it belongs to. A name must not come to mean something else: outcomes of both checkouts are matched by their names.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

SPLITS = ("train", "train", "validation", "test")
COLOURED = 50
"""Photos of a fine-tuning: more than a batch in each fold."""

Outcomes = dict[str, np.ndarray]


def write(photos: Path, result: Path) -> None:
    """Write what the code that is imported here makes of all photos of a folder. Those whose names begin with `valid` can be decoded."""
    files = {path.name: path.read_bytes() for path in sorted(photos.iterdir())}
    found = _photos(files) | _trained(files) | _heads() | _views() | _backbone(files) | _answering()
    np.savez(result, allow_pickle=False, **found)  # type: ignore[arg-type]  # numpy's types know no names that are found at run time


def _photos(files: Mapping[str, bytes]) -> Outcomes:
    """Pixels and refusals, as the photos are, and with a preparation."""
    from car_damage.errors import UnusablePhoto
    from car_damage.photo.decoder import decode
    from car_damage.photo.limits import Limits
    from car_damage.photo.preparation import Preparation
    from tests.fakes import sha256

    def decoded(data: bytes, preparation: Preparation) -> np.ndarray:
        try:
            return np.array(sha256(decode(data, Limits(), preparation).pixels.tobytes()))
        except UnusablePhoto as error:
            return np.array(error.reason)

    preparations = {"photo": Preparation(), "prepared": Preparation(14_000, 60)}
    return {f"{kind} {name}": decoded(data, one) for kind, one in preparations.items() for name, data in files.items()}


def _trained(files: Mapping[str, bytes]) -> Outcomes:
    """A small network, trained on the photos, and what a preparation learns from them.

    Half of the photos find room in the cache, so both ways to read them are part of the result.
    """
    import pyarrow as pa

    from car_damage.model.networks import training
    from car_damage.model.pixels.photos import load
    from car_damage.model.pixels.resolution import learn
    from car_damage.photo.limits import SIZE, Limits
    from car_damage.settings import Labels, Training
    from car_damage.stage import silent
    from tests.fakes import Photos, Time, sha256

    valid = [name for name in files if name.startswith("valid")]
    classes = Labels().classes
    rows = pa.table(
        {
            "path": valid,
            "sha256": [sha256(files[name]) for name in valid],
            "label": [classes[number % len(classes)] for number in range(len(valid))],
            "split": [SPLITS[number % len(SPLITS)] for number in range(len(valid))],
        }
    )
    room = len(valid) // 2 * SIZE * SIZE * 3
    with load(rows, Photos(dict(files)), Limits(), classes, 2, silent, room, Time()) as photo_set:  # type: ignore[arg-type]
        parts = [photo_set.part(split) for split in dict.fromkeys(SPLITS)]
        trained = training.train(parts[0], parts[1], len(classes), Training(epochs=2), silent)
        answers = training.predict(trained.network, parts[2])
    same = {"split": ["train"] * len(valid), "width": [160] * len(valid), "height": [120] * len(valid)}
    learnt = learn(pa.table({"path": valid, "sha256": rows["sha256"], **same}), Photos(dict(files)), 2, Time())  # type: ignore[arg-type]
    weights = {f"weights {number}": array for number, array in enumerate(trained.network.get_weights())}
    return {"answers": answers, "learnt": np.array([learnt.pixels, learnt.quality], float), **weights}


def _heads() -> Outcomes:
    """Heads on features that are the same each time."""
    from car_damage.model.networks import heads

    features, labels = np.random.default_rng(0).random((45, 2, 12)), np.arange(45) % 3
    fitted = {kind: heads.fit(features, labels, np.arange(45) // 2, 3, kind, 1).head for kind in ("softmax", "ordinal")}  # type: ignore[arg-type]
    return {f"head {kind}": np.concatenate([head.kernel, head.bias[None]]) for kind, head in fitted.items()}


def _views() -> Outcomes:
    """Each view of the same pixels, and the augmentation `wide`."""
    from car_damage.model.networks.augmentation import wide
    from car_damage.model.networks.views import VIEWS

    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    return {f"view {name}": view(pixels) for name, view in VIEWS.items()} | {"wide": wide(pixels, np.random.default_rng(1))}


def _backbone(files: Mapping[str, bytes]) -> Outcomes:
    """What a small backbone sees in the photos, and how its upper layers learn, also with all that the settings of fine-tuning can add."""
    from car_damage.settings import Training

    learning: dict[str, Any] = {"fine_tune": "if_better", "fine_tune_from": "low", "fine_tune_epochs": 6, "fine_tune_rate": 0.1}
    more = {"head": "ordinal", "augmentation": "wide", "fine_tune_mixup": 0.1, "fine_tune_smoothing": 0.05, "precision": "mixed_bfloat16"}
    with TemporaryDirectory() as folder:  # of its own, because two checkouts run side by side
        plain = Training(network="transfer", backbone=str(_small_backbone(Path(folder))), fine_tune_head_rate=0.1, **learning)
        return _seen(files, plain) | _tuned("tuned", plain) | _tuned("tuned_wide", plain.model_copy(update=more))


def _seen(files: Mapping[str, bytes], settings: Any) -> Outcomes:
    """What a backbone sees in the photos, in all views, and what a head on it answers."""
    from car_damage.adapters.folder import Folder
    from car_damage.model.networks import backbone, heads, onnx_parts
    from car_damage.model.networks.seer import Seer
    from car_damage.model.networks.views import VIEWS
    from car_damage.model.onnx_network import OnnxNetwork
    from car_damage.photo.limits import Limits
    from car_damage.photo.preparation import Preparation

    pixels = np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), np.uint8)
    seen = backbone.load(settings, Folder()).exported([], lambda: pixels)
    assert seen.onnx is not None, seen.why_keras
    seer = Seer(seen.onnx, Limits(), Preparation(), tuple(VIEWS))
    rows = {f"seen {name}": np.array(seer(name, data)["features"]) for name, data in files.items() if name.startswith("valid")}
    kernel = np.random.default_rng(5).normal(0, 1, (seen.length, 2)).astype(np.float32)
    answers = OnnxNetwork(onnx_parts.with_head(seen.onnx, heads.Head(kernel, kernel[0], "ordinal")))(pixels)
    return {"seen by Keras": seen.features(pixels), "seen with a head": answers, **rows}


def _small_backbone(folder: Path) -> Path:
    """Pixels -> the mean colours `low` (n, 7, 7, 3) -> 4 maps, which see only blue as long as nothing learns."""
    from car_damage.model.networks import startup

    startup.import_quietly()
    import keras
    from keras import layers

    photo = keras.Input((224, 224, 3), dtype="uint8")
    low = layers.Rescaling(1.0, name="low")(layers.AveragePooling2D(32)(layers.Rescaling(1 / 127.5, -1)(photo)))
    network = keras.Model(photo, layers.BatchNormalization()(layers.Conv2D(4, 1, name="high")(low)))
    kernel = np.zeros((1, 1, 3, 4), np.float32)
    kernel[0, 0, 2] = [1, -1, 0.5, 2]
    network.get_layer("high").set_weights([kernel, np.zeros(4, np.float32)])
    path = folder / "small.keras"
    network.save(path)
    return path


def _tuned(name: str, settings: Any) -> Outcomes:
    """A fine-tuning that wins, because the class is how bright red is: what cross-validation and the last training give."""
    from car_damage.adapters.folder import Folder
    from car_damage.model.networks import backbone, heads, precision
    from car_damage.model.networks.tuning.fine_tuning import FrozenHead, tune
    from car_damage.model.networks.views import VIEWS, chosen
    from car_damage.stage import silent

    seen, photos, groups = backbone.load(settings, Folder()), _coloured(), np.arange(COLOURED)
    views = [VIEWS[view] for view in chosen(settings)]
    features = np.stack([seen.features(view(photos.pixels)) for view in views], axis=1)  # type: ignore[arg-type]  # an array, and no cache
    fitted = heads.fit(features, photos.labels, groups, 2, settings.head, settings.seed)
    with patch.object(precision, "here", lambda wanted: wanted):  # as on a machine with a GPU
        found = tune(seen.network, FrozenHead(features, photos.labels, groups, 2, fitted), photos, views, settings, None, silent)
    assert found.won, f"{name}: nothing was learned, so it proves nothing: {found.metrics}"
    whole = found.head.on(seen.network)
    weights = {f"{name} {number}": array for number, array in enumerate(whole.get_weights())}
    return {f"{name} out of fold": np.array(found.out_of_fold), f"{name} metrics": np.array(json.dumps(found.metrics)), **weights}


def _coloured() -> Any:
    """Photos in one colour."""
    from car_damage.model.pixels.photos import Photos

    random = np.random.default_rng(4)
    signs = random.choice([-1, 1], (COLOURED, 3))
    colours = (128 + 60 * signs + random.normal(0, 20, (COLOURED, 3))).clip(0, 255).astype(np.uint8)
    names = tuple(map(str, range(COLOURED)))
    return Photos(np.tile(colours[:, None, None], (1, 224, 224, 1)), (signs[:, 0] > 0).astype(np.int64), names, names)


def _answering() -> Outcomes:
    """How a model answers, fitted to outputs of a network that is too sure of itself."""
    from car_damage.model.quality.answers import NetworkOutput, fitted
    from car_damage.settings import Answers

    random = np.random.default_rng(3)
    labels, pixels = random.integers(0, 3, 240), random.choice([40_000, 200_000, 900_000], 240)
    odds = np.exp(3 * (np.eye(3)[labels] + random.normal(0, 0.7, (240, 3))))
    said = NetworkOutput(labels, odds / odds.sum(axis=1, keepdims=True), pixels)
    costs = np.array([[0, 1, 2], [2, 0, 1], [6, 3, 0]], float)
    found = fitted(said, Answers(coverage="cheapest", group_thresholds=True), costs)
    return {"answering": np.array(json.dumps(asdict(found))), "answering calibrated": found.calibrated(said.probabilities, pixels)}


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
