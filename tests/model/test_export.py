"""The network that answers: an export of the trained one, compared with it on the test photos."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from car_damage.errors import ModelRefused
from car_damage.model.networks import cnn, export, startup
from car_damage.model.networks.training import batches, predict
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.model.pixels.photos import Photos

if TYPE_CHECKING:
    import keras

Draw = Callable[[int, int], Photos]


@pytest.fixture(scope="module")
def network() -> "keras.Model":
    startup.import_quietly()
    import keras

    keras.utils.set_random_seed(5)
    return cnn.cnn(3)


def test_no_bytecode_stays_in_the_temporary_folder(
    network: "keras.Model", drawn: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    next(iter(batches(drawn(5, 1), 2, shuffle_seed=1)))
    export.write(network, tmp_path / "n.onnx")
    assert list(tmp_path.rglob("*.pyc")) == []
    assert not sys.dont_write_bytecode


def test_the_exported_network_answers_like_keras(network: "keras.Model", drawn: Draw, tmp_path: Path) -> None:
    photos = drawn(5, 1)
    served = export.served(network, tmp_path / "n.onnx", photos)
    assert (served.file, served.why_keras) == (tmp_path / "n.onnx", "")
    assert isinstance(served.network, OnnxNetwork)
    by_onnx = predict(served.network, photos)
    assert by_onnx.shape == (5, 3)
    assert by_onnx == pytest.approx(predict(network, photos), abs=1e-6)
    with pytest.raises(ValueError, match="cannot be trained"):
        served.network(np.zeros((1, 224, 224, 3), np.uint8), training=True)


def test_layers_with_numbers_of_their_own_and_another_size_are_exported(drawn: Draw, tmp_path: Path) -> None:
    """As in the backbones of keras.applications, whose preprocessing is a part of a network in the network."""
    import keras
    from keras import layers

    inner = keras.Input((96, 96, 3))
    normal = layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[60.0, 70.0, 80.0])(layers.Resizing(96, 96)(inner))
    network = keras.Model(inner, layers.Conv2D(4, 8, strides=8)(normal))
    photo = keras.Input((224, 224, 3), dtype="uint8")
    maps = network(layers.Resizing(96, 96)(layers.Rescaling(1.0)(photo)))
    outer = keras.Model(photo, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(maps)))
    assert export.served(outer, tmp_path / "n.onnx", drawn(3, 1)).why_keras == ""


def test_an_export_that_answers_otherwise_is_refused(
    network: "keras.Model", drawn: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = cnn.cnn(3)
    write = export.write
    monkeypatch.setattr(export, "write", lambda _, file: write(other, file))
    with pytest.raises(ModelRefused, match="differ by"):
        export.served(network, tmp_path / "n.onnx", drawn(3, 1))


def test_a_network_that_cannot_be_exported_answers_by_keras(drawn: Draw, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    class Foreign(keras.layers.Layer):
        """Runs Python, which no ONNX file can."""

        def call(self, photos: tf.Tensor) -> tf.Tensor:
            mean = tf.numpy_function(lambda pixels: pixels.mean(axis=(1, 2)).astype(np.float32), [photos], tf.float32)
            return tf.ensure_shape(mean, (None, 3))

    photo = keras.Input((224, 224, 3), dtype="uint8")
    foreign = keras.Model(photo, keras.layers.Softmax()(Foreign()(photo)))
    served = export.served(foreign, tmp_path / "n.onnx", drawn(3, 1))
    assert served.network is foreign
    assert served.file is None
    assert served.why_keras
    assert list(tmp_path.iterdir()) == []
    assert export.int8(served, drawn(3, 1)) is served


def test_int8_is_smaller_and_answers_nearly_the_same(network: "keras.Model", drawn: Draw, tmp_path: Path) -> None:
    photos = drawn(12, 1)
    plain = export.served(network, tmp_path / "n.onnx", photos)
    assert plain.file is not None
    size, by_float = plain.file.stat().st_size, predict(plain.network, photos)
    small = export.int8(plain, photos)
    assert small.file == plain.file
    assert plain.file.stat().st_size < size / 2
    by_int8 = predict(small.network, photos)
    assert by_int8 == pytest.approx(by_float, abs=0.05)
    assert not np.array_equal(by_int8, by_float)
    assert list(tmp_path.iterdir()) == [plain.file]
