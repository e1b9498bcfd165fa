"""Fine-tuning on a small backbone whose frozen features hide the class, and on one where there is nothing to gain."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from car_damage.adapters.folder import Folder
from car_damage.errors import SettingsError
from car_damage.model.networks import augmentation, backbone, export, heads, startup
from car_damage.model.networks.tuning import cutting, fine_tuning
from car_damage.model.networks.tuning.fine_tuning import FrozenHead, TuningResult, tune
from car_damage.model.pixels.photos import Photos
from car_damage.settings import Training
from car_damage.stage import silent

PHOTOS = 120
MIRRORED = [lambda pixels: pixels, lambda pixels: pixels[:, :, ::-1]]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pixels -> the mean colours `low` (n, 7, 7, 3) -> 4 maps `high`, which see only blue as long as nothing learns."""
    startup.import_quietly()
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    photo = keras.Input((224, 224, 3), dtype="uint8")
    low = layers.Rescaling(1.0, name="low")(layers.AveragePooling2D(32)(layers.Rescaling(1 / 127.5, -1)(photo)))
    network = keras.Model(photo, layers.BatchNormalization(name="normal")(layers.Conv2D(4, 1, name="high")(low)))
    kernel = np.zeros((1, 1, 3, 4), np.float32)
    kernel[0, 0, 2] = [1, -1, 0.5, 2]
    network.get_layer("high").set_weights([kernel, np.zeros(4, np.float32)])
    path = tmp_path_factory.mktemp("backbone") / "small.keras"
    network.save(path)
    return path


def settings(file: Path, **changes: Any) -> Training:
    given = {
        "fine_tune": "if_better",
        "fine_tune_from": "low",
        "fine_tune_epochs": 8,
        "fine_tune_rate": 0.05,
        "fine_tune_head_rate": 0.05,
        "head": "softmax",
        "network": "transfer",
        "backbone": str(file),
    }
    return Training(**(given | changes))


def photos(seed: int = 0, *, hidden: bool = True) -> Photos:
    """Photos in one colour. Their class is how bright red is, or, not hidden, blue."""
    random = np.random.default_rng(seed)
    signs = random.choice([-1, 1], (PHOTOS, 3))
    colour = 128 + 60 * signs + random.normal(0, 20, (PHOTOS, 3))
    pixels = np.broadcast_to(colour[:, None, None], (PHOTOS, 224, 224, 3)).clip(0, 255).astype(np.uint8)
    names = tuple(map(str, range(PHOTOS)))
    return Photos(pixels, (signs[:, 0 if hidden else 2] > 0).astype(np.int64), names, names)


def layer(network: Any, name: str) -> list[np.ndarray]:
    """The weights of a layer of the backbone in a network."""
    return next(one for one in network.layers if hasattr(one, "layers")).get_layer(name).get_weights()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Outcome:
    """What came of a fine-tuning."""

    network: Any
    frozen: FrozenHead
    tuned: TuningResult


def tuned(given: Photos, training: Training, champion: Any = None) -> Outcome:
    seen = backbone.load(training, Folder())
    features = np.stack([seen.features(view(given.pixels)) for view in MIRRORED], axis=1)  # type: ignore[arg-type]
    groups = np.arange(len(given))
    fitted = heads.fit(features, given.labels, groups, 2, training.head, training.seed)
    frozen = FrozenHead(features, given.labels, groups, 2, fitted)
    return Outcome(seen.network, frozen, tune(seen.network, frozen, given, MIRRORED, training, champion, silent))


@pytest.fixture(scope="module")
def won(file: Path) -> Outcome:
    return tuned(photos(), settings(file))


def test_a_class_that_frozen_features_hide_is_learned_kept_and_exported(won: Outcome, tmp_path: Path) -> None:
    metrics, new = won.tuned.metrics, photos(seed=1)
    assert (metrics["fine_tuned"], won.tuned.out_of_fold is won.frozen.fitted.out_of_fold) == (1.0, False)
    assert metrics["fine_tuning_gain"] > 0.2
    assert metrics["fine_tuning_gain_low"] <= metrics["fine_tuning_gain"] <= metrics["fine_tuning_gain_high"]
    served = export.served(won.tuned.head.on(won.network), tmp_path / "tuned.onnx", new)
    assert (served.why_keras, served.file) == ("", tmp_path / "tuned.onnx")
    assert (np.asarray(served.network(new.pixels)).argmax(axis=1) == new.labels).mean() > 0.85


def test_batch_normalisation_and_the_layers_below_stay_as_they_are(won: Outcome, file: Path) -> None:
    before = backbone.load(settings(file), Folder()).network
    assert not np.array_equal(layer(before, "high")[0], layer(won.network, "high")[0])
    assert all(np.array_equal(*pair) for pair in zip(layer(before, "normal"), layer(won.network, "normal"), strict=True))


def test_the_same_photos_settings_and_seed_give_the_same_weights(won: Outcome, file: Path) -> None:
    again = tuned(photos(), settings(file))
    assert all(np.array_equal(*pair) for pair in zip(won.network.get_weights(), again.network.get_weights(), strict=True))
    assert np.array_equal(won.tuned.head.kernel, again.tuned.head.kernel)


def test_where_nothing_is_gained_the_frozen_head_stays_and_the_metrics_say_so(file: Path) -> None:
    found, untouched = tuned(photos(hidden=False), settings(file, fine_tune_epochs=2)), backbone.load(settings(file), Folder()).network
    assert found.tuned.metrics["fine_tuned"] == 0
    assert found.tuned.metrics["fine_tuning_gain_low"] <= 0
    assert found.tuned.head is found.frozen.fitted.head
    assert found.tuned.out_of_fold is found.frozen.fitted.out_of_fold
    assert all(np.array_equal(*pair) for pair in zip(found.network.get_weights(), untouched.get_weights(), strict=True))


@pytest.mark.parametrize("bits", ["mixed_float16", "mixed_bfloat16"])
def test_an_ordinal_head_mixed_photos_smooth_labels_wide_views_and_16_bits_learn_too(
    file: Path, gpu: Callable[[], None], bits: str
) -> None:
    gpu()
    more = {"fine_tune_mixup": 0.1, "fine_tune_smoothing": 0.05, "augmentation": "wide", "precision": bits, "head": "ordinal"}
    found, new = tuned(photos(), settings(file, **more)), photos(seed=1)
    answers = np.asarray(found.tuned.head.on(found.network)(new.pixels))
    assert (found.tuned.metrics["fine_tuned"], answers.dtype) == (1.0, np.float32)
    assert (answers.argmax(axis=1) == new.labels).mean() > 0.8
    assert {one.compute_dtype for one in found.network.layers[1].layers} == {"float32"}


def test_training_goes_on_where_a_champion_has_ended(won: Outcome, file: Path) -> None:
    still = settings(file)
    champion = won.tuned.head.on(won.network)
    seen = backbone.load(still, Folder())
    learner = fine_tuning.Learner(cutting.cut(seen.network, "low").upper, won.frozen.features, won.frozen.fitted.head, still)
    with learner:
        fine_tuning.start_from(learner, won.frozen.fitted.head.on(seen.network), champion, still)
    assert np.array_equal(layer(seen.network, "high")[0], layer(champion, "high")[0])
    assert learner.head.kernel == pytest.approx(won.tuned.head.kernel, rel=1e-3, abs=1e-4)


def test_a_photo_that_is_lost_has_no_answer_out_of_fold(file: Path) -> None:
    given = photos()

    class Losing(Photos):
        def read(self, rows: Any) -> Any:
            there = np.arange(PHOTOS)[rows] != 7
            return self.pixels[rows][there], there

    lost = Losing(given.pixels, given.labels, given.sha256s, given.paths)
    seen = backbone.load(settings(file), Folder())
    features = seen.features(given.pixels)[:, None]  # type: ignore[arg-type]
    fitted = heads.fit(features, given.labels, np.arange(PHOTOS), 2, "softmax", 20)
    frozen = FrozenHead(features, given.labels, np.arange(PHOTOS), 2, fitted)
    found = tune(seen.network, frozen, lost, MIRRORED[:1], settings(file), None, silent)
    assert found.metrics["fine_tuned"] == 1
    assert found.out_of_fold is not None
    assert np.flatnonzero(np.isnan(found.out_of_fold[:, 0])).tolist() == [7]


@pytest.mark.parametrize(("name", "why"), [("nothing", "has no such layer"), ("normal", "nothing comes after it")])
def test_a_layer_at_which_the_backbone_cannot_be_cut_is_refused(file: Path, name: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        cutting.cut(backbone.load(settings(file), Folder()).network, name)


def test_a_layer_that_another_path_leads_past_is_refused(tmp_path: Path) -> None:
    startup.import_quietly()
    import keras
    from keras import layers

    photo = keras.Input((224, 224, 3), dtype="uint8")
    low = layers.Conv2D(4, 32, strides=32, name="low")(layers.Rescaling(1 / 255)(photo))
    keras.Model(photo, layers.Add()([low, layers.Conv2D(4, 1)(layers.ReLU(name="inside")(low))])).save(tmp_path / "sum.keras")
    network = backbone.load(settings(tmp_path / "sum.keras"), Folder()).network
    with pytest.raises(SettingsError, match="another path leads past it"):
        cutting.cut(network, "inside")
    parts, pixels = cutting.cut(network, "low"), photos().pixels[:5]
    whole = np.asarray(network(pixels))
    assert np.asarray(parts.upper(parts.lower(pixels))) == pytest.approx(whole, abs=1e-6)


def test_wide_augmentation_changes_each_photo_and_repeats_with_its_seed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 224, 224, 3), np.uint8)
    one, again, other = (augmentation.wide(noise, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one.shape, one.dtype) == (noise.shape, np.uint8)
    assert np.array_equal(one, again)
    assert all(not np.array_equal(changed, photo) for changed, photo in zip(one, noise, strict=True))
    assert not np.array_equal(one, other)
    assert augmentation.wide(noise[:0], np.random.default_rng(0)).shape == (0, 224, 224, 3)
