"""Traffic for `benchmarks.monitor`: real photos as they are, and worse and worse in several ways, with what a model answers to them.

The model is that of `benchmarks.answers`: a head on a frozen backbone, fitted to 85 % of train/ and calibrated on the other 15 %. Traffic
is val/, which it has not seen.
"""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from benchmarks import answers, real_features
from benchmarks.answers import CLASSES, Network
from benchmarks.real_features import PhotoFacts
from car_damage.model.answering import Answering, needs_a_person
from car_damage.model.networks import heads
from car_damage.model.quality.answers import fitted
from car_damage.monitoring.samples import Sample
from car_damage.photo.signals import Signals
from car_damage.promotion.evidence import costs
from car_damage.settings import Answers, Promotion

LEVELS = 3
"""Steps from a photo as it is, level 0, to the worst."""


@dataclass(frozen=True)
class Model:
    """A model, and the baseline of its training."""

    head: heads.Head
    answering: Answering
    baseline: Sample

    def sample(self, seen: PhotoFacts, labels: npt.NDArray[np.int64]) -> Sample:
        """What it answers to photos."""
        probabilities = self.answering.calibrated(self.head.probabilities(seen.plain), seen.width * seen.height)
        return Sample(_inputs(seen), probabilities, labels, needs_a_person(self.answering.sets(probabilities), probabilities))


@dataclass(frozen=True)
class World:
    """A model, and its traffic."""

    model: Model
    labels: npt.NDArray[np.int64]
    """(n,) of the photos of val/."""
    traffic: dict[str, tuple[Sample, ...]]
    """Kind -> n photos at each level, from 0 on."""


def world(place: Path, kinds: Iterable[str], levels: int = LEVELS) -> World:
    """Traffic that gets worse in these ways, names of KINDS, up to a level."""
    real = real_features.of(place)
    model, labels = _model(answers.said(place), real.train), real.photos.labels[real.photos.val]
    quiet = model.sample(real.val, labels)
    traffic = {
        kind: (quiet, *(model.sample(real.changed(f"{kind}-{level}", at(kind, level)), labels) for level in range(1, levels + 1)))
        for kind in kinds
    }
    return World(model, labels, traffic)


def at(kind: str, level: int) -> Callable[[Path], bytes]:
    """Reads a photo at a level of one of KINDS, 1 to LEVELS."""
    return lambda file: KINDS[kind](Image.open(file).convert("RGB"), level / LEVELS)


def _model(network: Network, train: PhotoFacts) -> Model:
    said = network.validation
    answering = fitted(said, Answers(), costs(CLASSES, Promotion().costs))
    probabilities = answering.calibrated(said.probabilities, said.pixels)
    review = needs_a_person(answering.sets(probabilities), probabilities)
    return Model(network.head, answering, Sample(_inputs(train), probabilities, said.labels, review))


def _inputs(seen: PhotoFacts) -> dict[str, npt.NDArray[np.float64]]:
    size, aspect = np.log2(seen.width * seen.height), np.log2(seen.width / seen.height)
    return {name: getattr(seen, name) for name in Signals._fields} | {"size": size, "aspect": aspect}


def _night(photo: Image.Image, much: float) -> bytes:
    """Darker, and with the noise of a sensor in the dark."""
    light = np.asarray(photo, np.float32) * (1 - 0.85 * much)
    noise = np.random.default_rng(photo.width).normal(0, 14 * much, light.shape)
    return _jpeg(Image.fromarray(np.clip(light + noise, 0, 255).astype(np.uint8)))


def _blur(photo: Image.Image, much: float) -> bytes:
    return _jpeg(photo.filter(ImageFilter.GaussianBlur(0.02 * min(photo.size) * much)))


def _rotation(photo: Image.Image, much: float) -> bytes:
    """Turned by up to 45 degrees, without the corners that a turn leaves empty, and as large as before."""
    angle = 45 * much
    share = 1 / (np.cos(np.radians(angle)) + np.sin(np.radians(angle)))
    turned = photo.rotate(angle, Image.Resampling.BICUBIC)
    left, top = (side * (1 - share) / 2 for side in photo.size)
    inside = turned.crop((round(left), round(top), round(photo.width - left), round(photo.height - top)))
    return _jpeg(inside.resize(photo.size, Image.Resampling.LANCZOS))


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
