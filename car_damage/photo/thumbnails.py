"""Small pictures of photos, for a person who wants to see which file is meant; of a cut JPEG, the part that is there.

Pure, and safe for any bytes at all: a photo is read by `car_damage.photo.decoder.decode` alone, within its limits, and what
cannot be drawn is None.
"""

import io
from dataclasses import replace

from PIL import Image

from car_damage.errors import UnusablePhoto
from car_damage.photo.containers import format_of
from car_damage.photo.decoder import Photo, decode
from car_damage.photo.limits import Limits
from car_damage.photo.reasons import TRUNCATED

SIDE = 96
"""Pixels of the longer side at most."""
MOST_PIXELS = 50_000_000
"""What is decoded for a thumbnail at most, where the limits of photos allow more: a person waits for nothing else."""
_QUALITY = 75
_END_OF_IMAGE = b"\xff\xd9"


def thumbnail(data: bytes, limits: Limits = Limits()) -> bytes | None:
    """A JPEG of at most SIDE x SIDE pixels, upright, in the photo's own proportions; some 3 kB, at most 12.

    A photo that is too small to train on is drawn as well. None for what cannot be decoded or is above the limits of
    pixels and bytes. Raises nothing.
    """
    limits = replace(limits, min_side=1, max_pixels=min(limits.max_pixels, MOST_PIXELS))
    try:
        return _drawn(decode(data, limits))
    except UnusablePhoto as error:
        if not str(error).startswith(TRUNCATED) or format_of(data) != "JPEG":
            return None
    try:
        # With an end in proper form libjpeg gives what it has, and grey for the rest. A download that was cut off in a
        # file of its full size ends in zeros, which would be decoded as if they were pixels.
        return _drawn(decode(data.rstrip(b"\0") + _END_OF_IMAGE, limits))
    except UnusablePhoto:
        return None


def _drawn(photo: Photo) -> bytes:
    scale = min(1.0, SIDE / max(photo.width, photo.height))
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    buffer = io.BytesIO()
    Image.fromarray(photo.pixels).resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
