"""Thumbnails, which show a person the photo behind a path, and larger pictures of photos in formats that browsers cannot show. For a
truncated JPEG a thumbnail shows the part that exists.

Pure, and safe for any bytes: only `car_damage.photo.decoder.decode` reads a photo, within its limits. A photo that cannot be decoded has
neither.
"""

import io
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from car_damage.errors import UnusablePhoto
from car_damage.photo.containers import format_of
from car_damage.photo.decoder import Photo, decode
from car_damage.photo.limits import Limits
from car_damage.photo.preparation import Preparation
from car_damage.photo.reasons import TRUNCATED

SIDE = 96
"""Pixels of the longer side, at most."""
LONGEST = 1024
"""Pixels of the longer side of a picture, at most."""
MOST_PIXELS = 50_000_000
"""Pixels decoded for a thumbnail or a picture, at most, even if the limits of photos allow more: a person is waiting for it."""
_QUALITY = 75
_END_OF_IMAGE = b"\xff\xd9"


def thumbnail(data: bytes, limits: Limits = Limits()) -> bytes | None:
    """A JPEG of at most SIDE x SIDE pixels, upright, with the photo's aspect ratio; about 3 kB, at most 12 kB.

    Photos that are too small for training have a thumbnail too. None if the photo cannot be decoded or exceeds the limits of
    pixels and bytes. Raises nothing.
    """
    limits = _for_people(limits)
    try:
        return _drawn(decode(data, limits))
    except UnusablePhoto as error:
        if not str(error).startswith(TRUNCATED) or format_of(data) != "JPEG":
            return None
    try:
        # With a valid end marker libjpeg decodes the pixels that exist and fills the rest with grey. An interrupted download
        # into a file of the full size ends in zeros; they are removed, because libjpeg would decode them as pixels.
        return _drawn(decode(data.rstrip(b"\0") + _END_OF_IMAGE, limits))
    except UnusablePhoto:
        return None


def picture(data: bytes, limits: Limits = Limits()) -> bytes | None:
    """A JPEG of at most LONGEST x LONGEST pixels, upright, with the photo's aspect ratio, and never larger than the photo.

    None if the photo cannot be decoded or exceeds the limits of pixels and bytes. Raises nothing.
    """
    try:
        photo = decode(data, _for_people(limits), _InItsShape())
    except UnusablePhoto:
        return None
    return drawn(photo.pixels, photo.width, photo.height, LONGEST)


def drawn(pixels: npt.NDArray[np.uint8], width: int, height: int, side: int = SIDE) -> bytes:
    """A JPEG of decoded pixels, (n, m, 3) uint8, in the shape that the photo had: at most side x side, and never larger than the photo."""
    scale = min(1.0, side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


class _InItsShape(Preparation):
    """Leaves a photo in its own shape, in place of the square that networks see."""

    def size(self, width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, LONGEST / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def square(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return pixels


def _for_people(limits: Limits) -> Limits:
    return replace(limits, min_side=1, max_pixels=min(limits.max_pixels, MOST_PIXELS))


def _drawn(photo: Photo) -> bytes:
    return drawn(photo.pixels, photo.width, photo.height)
