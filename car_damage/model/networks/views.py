"""The views of a photo from which a head learns: the photo as it is, and changed in ways that leave its class as it is."""

import io
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image

from car_damage.photo.formats.pixels import run
from car_damage.settings import Training

Pixels = npt.NDArray[np.uint8]

PLAIN = "plain"
_MIDDLE = 0.8
"""Share of each side that a zoomed photo shows."""
_QUALITY = 40
"""Of a compressed photo, on libjpeg's scale."""
_SOFTER = 2
"""A softened photo was this many times smaller."""


def chosen(training: Training) -> tuple[str, ...]:
    """The views of a training, each once. The first one is the photo as the served model gets it."""
    return (PLAIN, *dict.fromkeys(training.views)) if training.augment else (PLAIN,)


def _zoomed(photo: Image.Image) -> Image.Image:
    wide, high = (side * (1 - _MIDDLE) / 2 for side in photo.size)
    return photo.resize(photo.size, Image.Resampling.BILINEAR, box=(wide, high, photo.width - wide, photo.height - high))


def _compressed(photo: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=_QUALITY)
    return run("RGB", photo.size, buffer.getvalue(), "jpeg", ("RGB", "", 1, 0))


def _softened(photo: Image.Image) -> Image.Image:
    return photo.reduce(_SOFTER).resize(photo.size, Image.Resampling.BILINEAR)


def _each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Pixels], Pixels]:
    def changed(photos: Pixels) -> Pixels:
        return np.stack([np.asarray(change(Image.fromarray(photo))) for photo in photos]) if len(photos) else photos

    return changed


VIEWS: "MappingProxyType[str, Callable[[Pixels], Pixels]]" = MappingProxyType(
    {
        PLAIN: lambda photos: photos,
        "mirrored": lambda photos: photos[:, :, ::-1],
        "zoomed": _each(_zoomed),
        "compressed": _each(_compressed),
        "softened": _each(_softened),
    }
)
"""Name -> (n, 224, 224, 3) uint8 to the same. Features are kept by these names: a view that changes needs another name."""
