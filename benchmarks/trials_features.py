"""Features of real photos for `benchmarks.trials`: several preparations and views, by layers of a frozen backbone.

They are kept in build/trials, since they cost most of the time. A file there has also the processor time that it took.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from benchmarks import real_photos
from car_damage.data.photos.near_duplicates import components, unsigned
from car_damage.model.networks import startup
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.photo.decoder import decode, perceptual_hash
from car_damage.photo.limits import SIZE

WEIGHTS = Path("weights", "efficientnet_lite0_imagenet_224.keras")
"""Beside the folder of the photos."""
KEPT = Path("build/trials")
LAYERS = ("_bn1_relu", "block10_add", "block14_add", "_blocks_12__bn1_relu", "_blocks_14__bn1_relu", "_blocks_15__bn1_relu")
"""The backbone's output; the last sum at each of its two smallest sizes, 14x14 and 7x7; the widest maps of three late blocks."""
WIDTHS = (1280, 112, 192, 1152, 1152, 1152)
"""Features of each layer."""
NEAR = 8
"""Bits of near-duplicates, as by default in the settings."""
CROP = 0.8
"""Share of each side that a crop has."""
_SMALLER = 0.95
"""A photo that would keep this share of its sides stays as it is."""
_BATCH = 8

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Library:
    """All photos of train/ and val/."""

    weights: Path
    """The backbone, a .keras file."""
    files: tuple[Path, ...]
    labels: npt.NDArray[np.int64]
    """(n,) 0 to 2, from mildest to worst."""
    train: npt.NDArray[np.int64]
    """The rows of train/."""
    val: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    """(n, 2) width and height, pixels."""
    near: npt.NDArray[np.int64]
    """(n,) the same number for near-duplicates."""

    @property
    def size_class(self) -> npt.NDArray[np.int64]:
        """(n,) 0: thumbnails, 1: small squares, 2: a side of 400 pixels or more."""
        width, height = self.sizes.T
        return np.where(self.sizes.max(axis=1) >= 400, 2, np.where(np.abs(width - height) <= 8, 1, 0))

    @property
    def area(self) -> float:
        """The common resolution, in pixels: the median area of the training photos."""
        return float(np.median(self.sizes[self.train].prod(axis=1)))


def library(place: Path) -> Library:
    found = [
        (file, label, part)
        for part in ("train", "val")
        for label, name in enumerate(real_photos.FOLDERS)
        for file in sorted((place / part / name).iterdir())
    ]
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(lambda row: decode(row[0].read_bytes()), found))
    unique, inverse = np.unique(unsigned([perceptual_hash(photo.pixels) for photo in decoded]), return_inverse=True)
    in_val = np.array([part == "val" for _, _, part in found])
    return Library(
        weights=place.parent / WEIGHTS,
        files=tuple(file for file, _, _ in found),
        labels=np.array([label for _, label, _ in found]),
        train=np.flatnonzero(~in_val),
        val=np.flatnonzero(in_val),
        sizes=np.array([(photo.width, photo.height) for photo in decoded]),
        near=components(unique, NEAR)[inverse],
    )


def features(photos: Library, view: str) -> tuple[Features, float]:
    """(n, 5040) the means of LAYERS over each photo, and the processor seconds that they took.

    Args:
        photos: all of them.
        view: one of VIEWS.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"{view}.npz"
    if not file.exists():
        size = 288 if view.endswith("288") else SIZE
        network = OnnxNetwork(network_file(photos.weights, size))
        began = time.process_time()
        batches = range(0, len(photos.files), _BATCH)
        prepared = (np.stack([VIEWS[view](name, photos.area) for name in photos.files[at : at + _BATCH]]) for at in batches)
        found = np.concatenate([network(pixels) for pixels in prepared])
        part = file.with_suffix(".part.npz")
        np.savez(part, features=found, seconds=time.process_time() - began)
        part.replace(file)
    with np.load(file) as kept:
        return kept["features"], float(kept["seconds"])


def network_file(weights: Path, size: int) -> Path:
    """The backbone up to the means of LAYERS, for photos of (size, size, 3) uint8, as a file in the format ONNX."""
    file = KEPT / f"backbone-{size}.onnx"
    if not file.exists():
        startup.import_quietly()
        import keras

        trained = keras.saving.load_model(weights, compile=False)
        backbone = keras.models.clone_model(trained, input_tensors=keras.Input((size, size, 3), dtype="uint8"))
        backbone.set_weights(trained.get_weights())
        means = [keras.layers.GlobalAveragePooling2D()(backbone.get_layer(name).output) for name in LAYERS]
        network = keras.Model(backbone.inputs, keras.layers.Concatenate()(means))
        network(np.zeros((1, size, size, 3), np.uint8), training=False)
        network.export(str(file), format="onnx", verbose=False)
    return file


def _common(file: Path, area: float) -> Image.Image:
    """A photo, upright, at no more than the common resolution. Its aspect stays."""
    photo = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    scale = (area / (photo.width * photo.height)) ** 0.5
    return photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS) if scale < _SMALLER else photo


def _squashed(photo: Image.Image, size: int = SIZE, share: float = 1.0) -> Pixels:
    """The middle of a photo, this share of each side, as a square."""
    left, top = photo.width * (1 - share) / 2, photo.height * (1 - share) / 2
    box = (left, top, photo.width - left, photo.height - top)
    return np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR, box=box))


VIEWS: dict[str, Callable[[Path, float], Pixels]] = {
    "squashed": lambda file, _: decode(file.read_bytes()).pixels,
    "common": lambda file, area: _squashed(_common(file, area)),
    "common-288": lambda file, area: _squashed(_common(file, area), 288),
    "mirrored": lambda file, area: _squashed(_common(file, area))[:, ::-1],
    "crop": lambda file, area: _squashed(_common(file, area), share=CROP),
    "crop-mirrored": lambda file, area: _squashed(_common(file, area), share=CROP)[:, ::-1],
}
