import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from car_damage.model.networks import cnn, startup


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)


@pytest.fixture
def keras() -> Any:
    """Keras, imported when a test needs it so that test collection stays fast."""
    startup.import_quietly()
    import keras as module

    return module


@pytest.fixture(autouse=True)
def seeded(keras: Any) -> None:
    keras.utils.set_random_seed(5)


def test_packages_that_are_hidden_while_keras_is_imported_are_there_afterwards() -> None:
    startup.import_quietly()
    import sklearn  # type: ignore[import-untyped]

    assert sklearn.__version__


def test_uint8_photos_go_in_and_one_probability_a_class_comes_out() -> None:
    network = cnn.cnn(3)
    assert (network.input_shape, network.output_shape) == ((None, 224, 224, 3), (None, 3))
    assert network.inputs[0].dtype == "uint8"
    answers = np.asarray(network(noise(5)))
    assert answers.dtype == np.float32
    assert answers.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)


def test_the_number_of_classes_is_free() -> None:
    assert cnn.build("cnn", 4).output_shape == (None, 4)


def test_the_first_loss_is_near_ln_3(keras: Any) -> None:
    losses = []
    for seed in range(4):
        keras.utils.set_random_seed(seed)
        answers = np.asarray(cnn.cnn(3)(noise(6, seed)))
        losses.append(-np.log(answers[np.arange(6), [0, 1, 2, 0, 1, 2]]).mean())
    assert np.mean(losses) == pytest.approx(np.log(3), abs=0.35)


def test_rescaling_is_inside_so_dark_and_bright_photos_differ_in_range(keras: Any) -> None:
    rescaling = next(layer for layer in cnn.cnn(3).layers if isinstance(layer, keras.layers.Rescaling))
    assert np.asarray(rescaling(np.array([0.0, 255.0]))).tolist() == pytest.approx([-1.0, 1.0])


def test_one_batch_can_be_overfitted(keras: Any) -> None:
    network = cnn.cnn(3, dropout=0.0)
    photos, labels = noise(6), np.array([0, 1, 2, 2, 1, 0])
    network.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    network.fit(photos, labels, batch_size=6, epochs=80, verbose=0)
    assert np.asarray(network(photos, training=True)).argmax(axis=1).tolist() == labels.tolist()


def test_the_same_seed_makes_the_same_weights(keras: Any) -> None:
    def weights(seed: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(seed)
        return cnn.cnn(3).get_weights()

    assert all(np.array_equal(one, other) for one, other in zip(weights(1), weights(1), strict=True))
    assert any(not np.array_equal(one, other) for one, other in zip(weights(1), weights(2), strict=True))


def test_augmentation_changes_photos_in_training_only() -> None:
    layer = cnn.augmented(cnn.cnn(3), seed=1).get_layer("augmentation")
    photos = noise(4)
    assert np.array_equal(layer(photos, training=False), photos)
    changed = np.asarray(layer(photos, training=True))
    assert (changed.shape, changed.dtype) == (photos.shape, np.uint8)
    assert all(not np.array_equal(one, other) for one, other in zip(changed, photos, strict=True))


def test_augmentation_mirrors_about_half_of_the_photos_and_keeps_each_one_whole() -> None:
    layer = cnn.augmented(cnn.cnn(3), seed=1).get_layer("augmentation")
    slope = np.broadcast_to(np.linspace(60, 160, 224)[None, :, None], (224, 224, 3)).astype(np.uint8)
    changed = np.asarray(layer(np.stack([slope] * 40), training=True)).astype(int)
    mirrored = changed[:, 112, 0, 0] > changed[:, 112, -1, 0]
    assert 8 <= mirrored.sum() <= 32
    rows_are_alike = np.abs(changed - changed[:, :1]).max()
    assert rows_are_alike == 0


def test_the_same_seed_augments_in_the_same_way() -> None:
    photos = noise(4)
    one, other, third = (np.asarray(cnn.augmented(cnn.cnn(3), seed).get_layer("augmentation")(photos, training=True)) for seed in (1, 1, 2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)


def test_the_saved_network_has_no_augmentation_and_answers_as_the_trained_one(tmp_path: Path, keras: Any) -> None:
    network = cnn.cnn(3)
    learner = cnn.augmented(network, seed=1)
    learner.compile("adam", "sparse_categorical_crossentropy")
    learner.fit(noise(4), np.array([0, 1, 2, 0]), verbose=0)
    network.save(tmp_path / "saved.keras")
    again = keras.saving.load_model(tmp_path / "saved.keras", safe_mode=True)
    assert "augmentation" not in {layer.name for layer in again.layers}
    assert np.allclose(again(noise(3)), network(noise(3)), atol=1e-6)


def test_tensorflow_starts_without_a_word_and_other_messages_stay() -> None:
    program = "import os; from car_damage.model.networks import cnn; cnn.cnn(3); os.write(2, b'still heard')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "still heard")
