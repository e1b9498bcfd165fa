"""Traffic for `benchmarks.monitor`: real photos as they are, and worse and worse in several ways, with what a model answers to them.

The model is a head on a frozen backbone, fitted to 85 % of train/ and calibrated on the other 15 %. Traffic is val/, which it has not seen.
What costs time, the backbone's features, is kept in build/monitor.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from benchmarks.trials_features import WIDTHS, Library, library, network_file
from car_damage.model.answering import Answering, needs_a_person
from car_damage.model.networks import heads
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.model.quality.answers import Said, fitted
from car_damage.monitoring.samples import Sample
from car_damage.photo.decoder import decode
from car_damage.photo.limits import SIZE
from car_damage.photo.signals import signals
from car_damage.promotion.evidence import costs
from car_damage.settings import Answers, Promotion

CLASSES = ("minor", "moderate", "major")
KEPT = Path("build/monitor")
LEVELS = 3
"""Steps from a photo as it is, level 0, to the worst."""
_BATCH = 8
_USED = sum(WIDTHS[:3])
"""The backbone's output and the two layers that docs/model.md names."""
_VALIDATION = 0.15


@dataclass(frozen=True)
class Seen:
    """What is known of n photos before anything answers."""

    features: npt.NDArray[np.float32]
    brightness: npt.NDArray[np.float64]
    sharpness: npt.NDArray[np.float64]
    width: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Model:
    """A model, and the baseline of its training."""

    head: heads.Head
    answering: Answering
    baseline: Sample

    def sample(self, seen: Seen, labels: npt.NDArray[np.int64]) -> Sample:
        """What it answers to photos."""
        probabilities = self.answering.calibrated(self.head.probabilities(seen.features), seen.width * seen.height)
        return Sample(_inputs(seen), probabilities, labels, needs_a_person(self.answering.sets(probabilities), probabilities))


@dataclass(frozen=True)
class World:
    """A model, and its traffic."""

    model: Model
    labels: npt.NDArray[np.int64]
    """(n,) of the photos of val/."""
    traffic: dict[str, tuple[Sample, ...]]
    """Kind -> n photos at each level, 0 to LEVELS."""


def world(place: Path) -> World:
    """From build/monitor, or made there."""
    photos = library(place)
    network = OnnxNetwork(network_file(photos.weights, SIZE))
    train = _kept("train", photos, photos.train, _as_it_is, network)
    model = _model(photos, train)
    labels = photos.labels[photos.val]
    quiet = model.sample(_kept("quiet", photos, photos.val, _as_it_is, network), labels)
    traffic = {
        kind: (
            quiet,
            *(model.sample(_kept(f"{kind}-{level}", photos, photos.val, at(kind, level), network), labels) for level in _levels()),
        )
        for kind in KINDS
    }
    return World(model, labels, traffic)


def at(kind: str, level: int) -> Callable[[Path], bytes]:
    """Reads a photo at a level of one of KINDS, 1 to LEVELS."""
    return lambda file: KINDS[kind](Image.open(file).convert("RGB"), level / LEVELS)


def _model(photos: Library, train: Seen) -> Model:
    labels, near = photos.labels[photos.train], photos.near[photos.train]
    groups = np.unique(near)
    apart = np.random.default_rng(0).permutation(groups)[: round(_VALIDATION * len(groups))]
    held = np.isin(near, apart)
    head = heads.fit(train.features[~held][:, None], labels[~held], near[~held], len(CLASSES), "ordinal", 20).head
    pixels = train.width * train.height
    said = Said(labels[held], head.probabilities(train.features[held]), pixels[held])
    answering = fitted(said, Answers(), costs(CLASSES, Promotion().costs))
    probabilities = answering.calibrated(said.probabilities, said.pixels)
    review = needs_a_person(answering.sets(probabilities), probabilities)
    return Model(head, answering, Sample(_inputs(train), probabilities, said.labels, review))


def _inputs(seen: Seen) -> dict[str, npt.NDArray[np.float64]]:
    size, aspect = np.log2(seen.width * seen.height), np.log2(seen.width / seen.height)
    return {"brightness": seen.brightness, "sharpness": seen.sharpness, "size": size, "aspect": aspect}


def _kept(name: str, photos: Library, rows: npt.NDArray[np.int64], read: Callable[[Path], bytes], network: OnnxNetwork) -> Seen:
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"{name}.npz"
    if not file.exists():
        print(f"{name}: {len(rows)} photos", flush=True)
        part = file.with_suffix(".part.npz")
        np.savez(part, **vars(_seen([photos.files[row] for row in rows], read, network)))
        part.replace(file)
    with np.load(file) as there:
        return Seen(**{key: there[key] for key in Seen.__dataclass_fields__})


def _seen(files: list[Path], read: Callable[[Path], bytes], network: OnnxNetwork) -> Seen:
    features, looks, sizes = [], [], []
    for at in range(0, len(files), _BATCH):
        photos = [decode(read(file)) for file in files[at : at + _BATCH]]
        features.append(network(np.stack([photo.pixels for photo in photos]))[:, :_USED])
        looks += [signals(photo.pixels) for photo in photos]
        sizes += [(photo.width, photo.height) for photo in photos]
    brightness, sharpness = np.array(looks).T
    width, height = np.array(sizes).T
    return Seen(np.concatenate(features), brightness, sharpness, width, height)


def _levels() -> Iterable[int]:
    return range(1, LEVELS + 1)


def _as_it_is(file: Path) -> bytes:
    return file.read_bytes()


def _night(photo: Image.Image, much: float) -> bytes:
    """Darker, and with the noise of a sensor in the dark."""
    light = np.asarray(photo, np.float32) * (1 - 0.85 * much)
    noise = np.random.default_rng(photo.width).normal(0, 14 * much, light.shape)
    return _jpeg(Image.fromarray(np.clip(light + noise, 0, 255).astype(np.uint8)))


def _blur(photo: Image.Image, much: float) -> bytes:
    return _jpeg(photo.filter(ImageFilter.GaussianBlur(0.02 * min(photo.size) * much)))


def _rotation(photo: Image.Image, much: float) -> bytes:
    """Turned by up to 45 degrees, without the corners that a turn leaves empty."""
    angle = 45 * much
    share = 1 / (np.cos(np.radians(angle)) + np.sin(np.radians(angle)))
    turned = photo.rotate(angle, Image.Resampling.BICUBIC)
    left, top = (side * (1 - share) / 2 for side in photo.size)
    return _jpeg(turned.crop((round(left), round(top), round(photo.width - left), round(photo.height - top))))


def _compression(photo: Image.Image, much: float) -> bytes:
    return _jpeg(photo, round(60 - 54 * much))


def _car_park(photo: Image.Image, much: float) -> bytes:
    """Farther away, on asphalt, in the light of a hall."""
    scale = 1 - 0.55 * much
    grey = np.random.default_rng(photo.width).normal(110, 12, (photo.height, photo.width, 1)).repeat(3, axis=2)
    place = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    smaller = photo.resize((max(8, round(photo.width * scale)), max(8, round(photo.height * scale))), Image.Resampling.LANCZOS)
    place.paste(smaller, ((photo.width - smaller.width) // 2, (photo.height - smaller.height) // 2))
    cast = 1 + np.array([0.25, 0.05, -0.3]) * much
    return _jpeg(Image.fromarray(np.clip(np.asarray(place, np.float32) * cast, 0, 255).astype(np.uint8)))


def _jpeg(photo: Image.Image, quality: int = 92) -> bytes:
    target = io.BytesIO()
    photo.save(target, "JPEG", quality=quality)
    return target.getvalue()


KINDS: dict[str, Callable[[Image.Image, float], bytes]] = {
    "night": _night,
    "blur": _blur,
    "rotation": _rotation,
    "compression": _compression,
    "another car park": _car_park,
}
