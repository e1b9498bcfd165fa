"""Makes of a trained Keras network the network that answers, in the format ONNX."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from car_damage.data.photos.splits import TEST
from car_damage.errors import ModelRefused
from car_damage.model.networks.activation import with_places
from car_damage.model.networks.training import KnownAnswers
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.model.pixels.photos import Photos
from car_damage.photo.limits import SIZE

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-5
"""Largest difference between a probability of the ONNX network and of the Keras network. Adding 32-bit numbers in another order
changed probabilities by 1e-6 at most on real photos."""
_BATCH = 64
_LOOKED_AT = 4
"""Test photos, at most, on which a network is asked whose other answers come from features."""
_CALIBRATION = 128
"""Training photos from which the ranges of the 8-bit integers are taken, at most."""
_INTEGER = ["Conv", "Gemm", "MatMul"]
"""The layers that compute with integers. With all others too, twice as many real photos got another class, in twice the time."""
_CALIBRATION_BATCH = 8
"""The calibration keeps all maps of a batch in memory."""


@dataclass(frozen=True)
class ServedNetwork:
    """The network with which the registered model answers."""

    network: "OnnxNetwork | keras.Model"
    """Takes (n, 224, 224, 3) uint8, and gives (n, classes) float32."""
    file: Path | None
    """Its ONNX file; None where Keras answers."""
    why_keras: str = ""
    """Why it could not be exported; empty if it was."""


def served(network: "keras.Model", file: Path, test: Photos) -> ServedNetwork:
    """Export a network to a file, and compare both on the test photos.

    A network that cannot be exported answers by Keras.

    Raises:
        ModelRefused: the exported network gives another answer for a photo.
    """
    try:
        exported = _exported(network, file)
    except (OSError, MemoryError):  # of this machine, such as a full disk, and not of the network
        raise
    except Exception as error:  # noqa: BLE001 - Keras, tf2onnx and ONNX Runtime raise errors of every kind for what they do not know
        file.unlink(missing_ok=True)
        return ServedNetwork(network, None, f"{type(error).__name__}: {error}")
    for pixels in _batches(test, np.arange(len(test)), _BATCH):
        _compare(_by_keras(network, pixels), exported(pixels))
    return ServedNetwork(exported, file)


def answering(network: "keras.Model", answered: KnownAnswers, file: Path, test: Photos) -> ServedNetwork:
    """Write a network whose photos were answered from features, and compare those answers with Keras' for each test photo.

    The features of both were computed once for each photo. That they belong to this network is seen on a few of the photos.

    Raises:
        ModelRefused: the network in the format ONNX gives another answer for a photo.
    """
    if answered.onnx is None or answered.by_keras is None:
        return ServedNetwork(network, None, answered.why_keras)
    file.write_bytes(answered.onnx)
    exported = OnnxNetwork(file)
    _compare(answered.by_keras, answered.probabilities[TEST])
    rows = _evenly(len(test), _LOOKED_AT)
    pixels, there = test.look(rows)
    answers = exported(pixels)
    _compare(_by_keras(network, pixels), answers)
    _compare(answered.probabilities[TEST][rows[there]], answers)
    return ServedNetwork(exported, file)


def int8(exported: ServedNetwork, train: Photos) -> ServedNetwork:
    """The same network with 8-bit integers, whose ranges are those of some training photos. Without an ONNX file it stays as it is.

    Weights and maps become integers by static quantisation
    (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).

    Raises:
        ModelRefused: it cannot be made.
    """
    if exported.file is None:
        return exported
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    input_name = OnnxNetwork(exported.file).input

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self) -> None:
            self._batches = _batches(train, _evenly(len(train), _CALIBRATION), _CALIBRATION_BATCH)

        def get_next(self) -> dict[str, Any] | None:
            pixels = next(self._batches, None)
            return None if pixels is None else {input_name: pixels}

    plain, prepared = exported.file.with_suffix(".float.onnx"), exported.file.with_suffix(".prepared.onnx")
    exported.file.rename(plain)
    try:
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(exported.file), Reader(), per_channel=True, op_types_to_quantize=_INTEGER)
    except OSError:
        raise
    except Exception as error:
        raise ModelRefused(
            f"the network cannot answer with 8-bit integers: set training.int8 = false ({type(error).__name__}: {error})"
        ) from error
    finally:
        plain.unlink(missing_ok=True)
        prepared.unlink(missing_ok=True)
    return ServedNetwork(OnnxNetwork(exported.file), exported.file)


def write(network: "keras.Model", file: Path) -> None:
    """Write a network to a file in the format ONNX. Raises errors of Keras, TensorFlow and tf2onnx for one that cannot be exported."""
    import tf2onnx  # noqa: F401 - so that its own bytecode is kept

    _hold_constants(network)
    network(np.zeros((1, SIZE, SIZE, 3), np.uint8), training=False)  # Keras exports only a network that was called
    with warnings.catch_warnings(), _without_bytecode():
        warnings.simplefilter("ignore")  # of Keras and tf2onnx about old names in numpy
        network.export(str(file), format="onnx", verbose=False)


@contextlib.contextmanager
def _without_bytecode() -> Iterator[None]:
    """TensorFlow imports code from the temporary folder, and removes it when the process ends, but not its bytecode."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _hold_constants(network: "keras.Model") -> None:
    """Let the layers Normalization hold their numbers as arrays: tf2onnx makes an input of the network of each tensor that they hold."""
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.Model):
            _hold_constants(layer)
        elif isinstance(layer, keras.layers.Normalization):
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


def _exported(network: "keras.Model", file: Path) -> OnnxNetwork:
    write(with_places(network) or network, file)
    exported = OnnxNetwork(file)
    if exported.output_shape[-1] != network.output_shape[-1]:
        raise ValueError(f"its output has the shape {exported.output_shape}")
    return exported


def _by_keras(network: "keras.Model", pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    import keras

    with keras.device("cpu:0"):  # a GPU may multiply in TensorFloat-32, which differs by more than the tolerance
        return np.asarray(network(pixels, training=False))


def _compare(by_keras: npt.NDArray[np.float32], by_onnx: npt.NDArray[np.float32]) -> None:
    difference = float(np.abs(by_keras - by_onnx).max(initial=0.0)) if by_keras.shape == by_onnx.shape else np.inf
    # Within the tolerance two classes may be equally probable, and then either is the same answer.
    if not difference <= TOLERANCE:
        raise ModelRefused(
            f"the exported network (ONNX) gives probabilities that differ by {difference:.2g} from those of the Keras network, and "
            f"{TOLERANCE:g} is allowed: report this with the run's .keras file"
        )


def _batches(photos: Photos, rows: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.uint8]]:
    for at in range(0, len(rows), size):
        pixels, _ = photos.read(rows[at : at + size])
        if len(pixels):
            yield pixels


def _evenly(count: int, most: int) -> npt.NDArray[np.int64]:
    """Up to `most` of `count` rows, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
