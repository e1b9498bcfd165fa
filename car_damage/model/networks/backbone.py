"""The backbone of the network transfer: a network that others have trained, which turns photos into features.

It takes the decoder's pixels, (n, 224, 224, 3) uint8: what its own preprocessing does to them is a part of the network, so that the
served model needs nothing else. Keras opens a file in its safe mode, which refuses code in the file (Lambda layers).
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from car_damage.errors import ModelRefused, SettingsError
from car_damage.machine import Scratch
from car_damage.model.networks import export, onnx_parts, startup
from car_damage.model.networks.activation import averaged
from car_damage.model.networks.applications import mode, of_keras, preprocessed
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.packages import that_train_here
from car_damage.photo.limits import SIZE
from car_damage.photo.preparation import Preparation
from car_damage.pipeline import RECIPE, digest, named_file
from car_damage.ports import Files
from car_damage.settings import Training, is_path

if TYPE_CHECKING:
    import keras

DOWNLOAD = 900
"""Seconds that the download of weights may take."""
BATCH = 32
"""Photos in one call of the backbone."""

ALIKE = 1e-4
"""Largest difference between a feature by ONNX Runtime and by Keras, as a share of the largest feature. Real networks differed by
2e-6 at most. This finds a wrong network; what the difference means for the answers is compared for each test photo."""

_POOLING = "mean"


@dataclass(frozen=True)
class Backbone:
    """A backbone, and what its features depend on."""

    network: "keras.Model"
    """(n, 224, 224, 3) uint8 -> (n, d) float32, the mean of each map of features, of its output and of `training.layers`."""
    made_of: Mapping[str, Any]
    """What the features depend on, beside the runtime that computes them."""
    onnx: bytes | None = None
    """The same network in the format ONNX, which computes features. None: it was not exported yet, or cannot be."""
    why_keras: str = ""
    """Why it cannot be exported, so that Keras computes features; empty if it can."""

    @property
    def digest(self) -> str:
        """sha256 of the architecture, the weights, the preparation of the photos, the decoder, the runtime and the packages."""
        return digest({**self.made_of, "runtime": "keras" if self.why_keras else "onnxruntime"})

    @property
    def length(self) -> int:
        """Features of a photo, d."""
        return int(self.network.output_shape[-1])

    def features(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(n, 224, 224, 3) uint8 -> (n, d) float32, by Keras."""
        import keras

        with keras.device("cpu:0"):  # a GPU may multiply in TensorFloat-32, and the model answers on a CPU
            parts = [np.asarray(self.network(pixels[at : at + BATCH], training=False)) for at in range(0, len(pixels), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.length), np.float32)

    def exported(self, known: Iterable[bytes], photos: Callable[[], npt.NDArray[np.uint8]]) -> "Backbone":
        """With the network in the format ONNX, if it can be exported.

        Args:
            known: networks of earlier trainings in this format, which are asked for one by one. The first whose backbone is this one
                spares the export, which takes as long as the features of hundreds of photos. It was compared when it was exported.
            photos: reads (n, 224, 224, 3) uint8, a few on which both formats are compared after an export.

        Raises:
            ModelRefused: the exported network sees something else.
        """
        for network in known:
            if (found := onnx_parts.backbone_of(network, self.digest)) is not None:
                return replace(self, onnx=found)
        try:
            found = self._export()
        except (OSError, MemoryError):  # of this machine, such as a full disk, and not of the network
            raise
        except Exception as error:  # noqa: BLE001 - Keras, tf2onnx and ONNX Runtime raise errors of every kind for what they do not know
            return replace(self, why_keras=f"{type(error).__name__}: {error}")
        if not (difference := _difference(found, shown := photos(), self.features(shown))) <= ALIKE:
            raise ModelRefused(
                f"the exported backbone (ONNX) gives features that differ by {difference:.2g} of the largest from those of Keras, and "
                f"{ALIKE:g} is allowed: choose another training.backbone, and report this one"
            )
        return replace(self, onnx=found)

    def _export(self) -> bytes:
        import keras

        with Scratch("backbone") as folder:
            # With the maps, on which a head says where in a photo it sees what it answers.
            whole = keras.Model(self.network.input, [self.network.output, *averaged(self.network.output)], name="backbone")
            export.write(whole, folder / "backbone.onnx")
            found = onnx_parts.marked((folder / "backbone.onnx").read_bytes(), self.digest)
        if OnnxNetwork(found).output_shape[-1] != self.length:
            raise ValueError(f"its output has the shape {OnnxNetwork(found).output_shape}")
        return found


def load(settings: Training, files: Files, preparation: Preparation = Preparation(), seconds: int = DOWNLOAD) -> Backbone:
    """The backbone that the settings name.

    Args:
        settings: the settings of training.
        files: reads the files.
        preparation: of the photos that it will be given.
        seconds: that a download of weights may take.

    Raises:
        SettingsError: there is no such network or file, the file is no such network, or its weights cannot be had.
        Unavailable: the file cannot be read.
    """
    startup.import_quietly()
    network, content = _of_file(settings.backbone, files) if is_path(settings.backbone) else of_keras(settings, files, seconds)
    network.trainable = False
    taking = _taking_pixels(network, "none" if is_path(settings.backbone) else mode(settings.backbone), settings.layers)
    made_of = {"backbone": content, "layers": settings.layers, "pooling": _POOLING, "preparation": asdict(preparation), "recipe": RECIPE}
    return Backbone(taking, made_of | {"packages": that_train_here()})


def check(settings: Training, files: Files, *, here: bool, seconds: int = DOWNLOAD) -> str:
    """What a training will find, for a person, before it begins. It downloads weights that are missing.

    Args:
        settings: the settings of training.
        files: reads the files.
        here: trainings run on this machine, and not as jobs.
        seconds: that a download may take.

    Raises what `load` raises.
    """
    if settings.network == "cnn":
        return f"not needed by the network {settings.network}"
    contents = {path: named_file(name, path, files.read) for name, path in settings.files.items()}
    digests = [f"{path} (sha256 {hashlib.sha256(content).hexdigest()[:12]})" for path, content in contents.items()]
    if not here:
        where = ", ".join(digests) or f"{settings.backbone}, weights {settings.weights}: the job train downloads them"
        return f"{where}; not opened here, because only the jobs have TensorFlow"
    length = load(settings, files, seconds=seconds).length
    return f"{', '.join(digests) or f'{settings.backbone}, weights {settings.weights}'}: {length} features of a photo"


def _difference(onnx: bytes, photos: npt.NDArray[np.uint8], by_keras: npt.NDArray[np.float32]) -> float:
    """The largest difference of a feature, as a share of the largest feature; infinite for another number of features."""
    by_onnx = OnnxNetwork(onnx)(photos) if len(photos) else by_keras
    if by_onnx.shape != by_keras.shape:
        return float("inf")
    return float(np.abs(by_onnx - by_keras).max(initial=0.0) / max(np.abs(by_keras).max(initial=0.0), np.finfo(np.float32).tiny))


def _of_file(path: str, files: Files) -> tuple["keras.Model", str]:
    """The network in a .keras file, and its content."""
    import keras

    content = named_file("backbone", path, files.read)
    with Scratch("backbone") as folder:
        copy = folder / "backbone.keras"
        copy.write_bytes(content)
        try:
            network = keras.saving.load_model(copy, compile=False, safe_mode=True)
            _check_shapes(network)
        except Exception as error:  # Keras raises errors of every kind for a file that it does not know
            raise SettingsError(
                f"training.backbone names {path}, and that is no network for it: {type(error).__name__}: {str(error)[:300]}. It must be a "
                ".keras file without Lambda layers, whose network takes pixels (n, s, s, 3) and gives maps of features (n, h, w, c)"
            ) from error
    return network, hashlib.sha256(content).hexdigest()


def _check_shapes(network: "keras.Model") -> None:
    given, gives = network.input_shape, network.output_shape
    if not (isinstance(given, tuple) and len(given) == 4 and given[3] == 3 and given[1] == given[2]):
        raise ValueError(f"its input has the shape {given}")
    if not (isinstance(gives, tuple) and len(gives) in _POOLED and gives[-1]):
        raise ValueError(f"its output has the shape {gives}")


_POOLED = MappingProxyType({2: None, 3: "GlobalAveragePooling1D", 4: "GlobalAveragePooling2D"})
"""Dimensions of a backbone's output -> the layer that averages it over the photo."""


def _taking_pixels(network: "keras.Model", wanted: str, more: Sequence[str]) -> "keras.Model":
    """The network between the decoder's pixels and the means of its maps, and of those of more of its layers."""
    import keras
    from keras import layers

    photo = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="photo")
    pixels = photo
    side = network.input_shape[1]
    if str(network.inputs[0].dtype) != "uint8":
        pixels = layers.Rescaling(1.0, name="as_numbers")(pixels)
    if side not in {None, SIZE}:
        pixels = layers.Resizing(side, side, name="resized")(pixels)
    if wanted != "none":
        pixels = preprocessed(pixels, wanted)
    if not more:
        return keras.Model(photo, mean(network(pixels)), name="backbone")
    maps = [network.output, *(_maps_of(network, name) for name in more)]
    means = [mean(one) for one in keras.Model(network.input, maps, name="maps")(pixels)]
    return keras.Model(photo, layers.Concatenate(name="features")(means), name="backbone")


def _maps_of(network: "keras.Model", layer: str) -> Any:
    try:
        maps = network.get_layer(layer).output
    except ValueError as error:
        some = ", ".join(one.name for one in network.layers[-40:])
        raise SettingsError(f"training.layers names {layer}, and the backbone has no such layer; its last ones are {some}") from error
    if len(getattr(maps, "shape", ())) not in _POOLED:
        raise SettingsError(f"training.layers names {layer}, whose output is no map of features")
    return maps


def mean(maps: Any) -> Any:
    """Symbolic maps (n, h, w, c) or tokens (n, t, c), averaged over the photo; (n, c) that are averaged already stay."""
    from keras import layers

    pooling = _POOLED[len(maps.shape)]
    return getattr(layers, pooling)()(maps) if pooling else maps
