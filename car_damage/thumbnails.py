"""Small pictures of photos that cannot be used, so that a person sees at a glance what is wrong with them.

Never raises: whatever the bytes are, there is a picture or there is none. Nothing above the limits is decoded.
"""

import io

from PIL import Image

from car_damage.errors import UnusablePhoto
from car_damage.images import Limits, Photo, decode

SIDE = 96
"""Pixels of the longer side."""
LIMITS = Limits(min_side=1, max_pixels=50_000_000, max_bytes=32 << 20)
"""What is decoded for a thumbnail: smaller photos than training takes, and no very large ones."""
_QUALITY = 70
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def thumbnail(data: bytes) -> bytes | None:
    """A JPEG of at most 96x96 pixels, some kilobytes; None where nothing can be drawn.

    Of a JPEG whose end is missing, the part that is there.
    """
    photo = _decoded(data) or (_decoded(data + _JPEG_END) if data.startswith(_JPEG_START) else None)
    if photo is None:
        return None
    scale = SIDE / max(photo.width, photo.height)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    buffer = io.BytesIO()
    Image.fromarray(photo.pixels).resize(size).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _decoded(data: bytes) -> Photo | None:
    try:
        return decode(data, LIMITS)
    except UnusablePhoto:
        return None
