"""Networks of keras.applications without their tops: names, weights, and what their preprocessing does to pixels."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from car_damage.errors import SettingsError, WeightsMissing
from car_damage.machine import Scratch, write_whole
from car_damage.model.networks import startup
from car_damage.photo.limits import SIZE
from car_damage.pipeline import named_file
from car_damage.ports import Files
from car_damage.settings import Training, is_path

if TYPE_CHECKING:
    import keras

_MEAN, _DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_PREPROCESSING = MappingProxyType(
    {
        "tf": (
            "InceptionResNetV2",
            "InceptionV3",
            "MobileNet",
            "MobileNetV2",
            "NASNet",
            "ResNet50V2",
            "ResNet101V2",
            "ResNet152V2",
            "Xception",
        ),
        "torch": ("DenseNet",),
        "caffe": ("ResNet50", "ResNet101", "ResNet152", "VGG"),
        "none": ("ConvNeXt", "EfficientNet", "MobileNetV3"),
    }
)
"""Mode of `keras.applications.imagenet_utils.preprocess_input` -> how the names of the networks that want it begin. none: it is a part
of the network already. Of two that fit, the longer beginning counts."""
CONNECT = 10
"""Seconds within which the server that has the weights must answer. Without a way out, many networks drop what is sent, and tell nobody."""
_FETCH = """
import os, signal, socket, sys, time
name, seconds, connect = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
end = time.monotonic() + seconds
signal.alarm(seconds)
socket.setdefaulttimeout(20)
opened = socket.create_connection

def create_connection(*given, **named):
    print("connecting", flush=True)
    signal.alarm(min(connect, seconds))
    found = opened(*given, **named)
    print("connected", flush=True)
    signal.alarm(max(1, int(end - time.monotonic())))
    return found

socket.create_connection = create_connection
import keras
from keras.src.utils import file_utils
get_file = file_utils.get_file

def noted(*given, **named):
    file = get_file(*given, **named)
    print(file, flush=True)
    return file

file_utils.get_file = noted
getattr(keras.applications, name)(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
"""


def of_keras(settings: Training, files: Files, seconds: int) -> tuple["keras.Model", str]:
    """A network of keras.applications, and the digest of its weights."""
    import keras

    name, make = settings.backbone, known(settings.backbone)
    keras.utils.set_random_seed(settings.seed)
    network = make(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    if settings.weights == "imagenet":
        network.load_weights(fetch(name, seconds))
    elif is_path(settings.weights):
        _load_weights(network, name, settings.weights, files)
    content = hashlib.sha256(name.encode())
    for array in network.get_weights():
        content.update(np.ascontiguousarray(array).tobytes())
    return network, content.hexdigest()


def _load_weights(network: "keras.Model", name: str, path: str, files: Files) -> None:
    with Scratch("backbone") as folder:
        copy = folder / Path(path).name
        copy.write_bytes(named_file("weights", path, files.read))
        try:
            network.load_weights(copy)
        except Exception as error:  # Keras and h5py raise errors of every kind for a file that does not fit
            raise SettingsError(
                f"training.weights names {path}, and it does not fit {name} without its top: {type(error).__name__}: {str(error)[:300]}"
            ) from error


def fetch(name: str, seconds: int) -> Path:
    """The file with the weights of a network of keras.applications. Keras downloads it once and keeps it in its own folder.

    The download runs in a process of its own, because Keras sets no limit to it. That process notes the file's name, so that later
    trainings open the file and start no process.

    Raises:
        WeightsMissing: the weights cannot be had.
    """
    note = _keras_models() / f"{name}.car-damage.txt"
    if (file := _noted(note)) is not None:
        return file
    quiet = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", _FETCH, name, str(seconds), str(CONNECT)]
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)  # it ends itself in time
    said = done.stdout.split("\n")
    if done.returncode:
        raise WeightsMissing(
            f"the weights imagenet of {name} cannot be had: {_why(done, seconds)[:300]}. Without a way to the internet, save the network "
            "elsewhere (keras.applications, include_top=False, model.save) and set training.backbone to the .keras file, on a volume in "
            "Databricks"
        )
    file = next(Path(line) for line in reversed(said) if is_path(line))
    with contextlib.suppress(OSError):  # a folder that cannot be written to: the next training asks Keras again
        write_whole(note, f"{file}\n{file.stat().st_size}\n")
    return file


def _why(done: "subprocess.CompletedProcess[str]", seconds: int) -> str:
    if done.returncode != -signal.SIGALRM:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    waited = [line for line in done.stdout.split("\n") if line in {"connecting", "connected"}][-1:] == ["connecting"]
    return f"no server answered within {min(CONNECT, seconds)} s" if waited else f"the download took more than {seconds} s"


def _keras_models() -> Path:
    """The folder in which Keras keeps weights."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def _noted(note: Path) -> Path | None:
    """The file that a note names, if it is there and as large as it was."""
    try:
        name, size = note.read_text().splitlines()
        return Path(name) if Path(name).stat().st_size == int(size) else None
    except (OSError, ValueError):
        return None


def known(name: str) -> Any:
    """The function of keras.applications with this name. Raises SettingsError for a name that is none of its networks."""
    startup.import_quietly()
    import keras

    make = getattr(keras.applications, name, None)
    if make is None or not callable(make) or not mode(name):
        names = sorted(one for one in dir(keras.applications) if one[:1].isupper())
        raise SettingsError(f"training.backbone is {name}; it must be a .keras file, or one of {', '.join(names)}")
    return make


def mode(name: str) -> str:
    """How the network with this name wants its pixels; empty for an unknown one."""
    fitting = [(len(start), wanted) for wanted, starts in _PREPROCESSING.items() for start in starts if name.startswith(start)]
    return max(fitting, default=(0, ""))[1]


def preprocessed(pixels: Any, wanted: str) -> Any:
    """What `preprocess_input` computes in this mode, as one convolution of each pixel: Keras saves that without code in the file."""
    from keras import layers

    if wanted == "caffe":  # blue first, less the mean of ImageNet
        kernel, bias = np.eye(3)[::-1], -np.array([103.939, 116.779, 123.68])
    elif wanted == "torch":
        kernel, bias = np.diag(1 / (255 * _DEVIATION)), -_MEAN / _DEVIATION
    else:
        kernel, bias = np.eye(3) / 127.5, -np.ones(3)
    layer = layers.Conv2D(3, 1, trainable=False, name="preprocessing")
    layer.build(pixels.shape)
    layer.set_weights([kernel.reshape(1, 1, 3, 3).astype(np.float32), bias.astype(np.float32)])
    return layer(pixels)
