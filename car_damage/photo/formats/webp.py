"""Reads the container of a WebP."""

import io
import struct

from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from car_damage.photo.formats import exif
from car_damage.photo.formats.header import Header, ends_early, unusable
from car_damage.photo.reasons import CORRUPT


class _ShortReads(io.BytesIO):
    """Gives a part of what is asked for, as a file may.

    With the first 30 bytes at once, WebPImageFile would check Pillow's process-wide limit of pixels.
    """

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 16) if size is not None and size <= 30 else size)


def read(data: bytes) -> Header:
    """Read the chunks as far as the size and the orientation."""
    riff, kind = struct.unpack_from("<I4x4s", data, 4)
    orientation, profile = 1, b""
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        at = 12
        while at + 8 <= len(data):
            name, length = struct.unpack_from("<4sI", data, at)
            if name == b"EXIF":
                orientation = exif.orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
            elif name == b"ICCP":
                profile = profile or data[at + 8 : at + 8 + length]
            at += 8 + length + length % 2
    else:
        raise unusable(CORRUPT, f"a WebP whose first chunk is {kind!r}")
    # libwebp decodes zeros as pixels. No encoder writes so many of them at the end of a photo; an interrupted download
    # into a file of the full size has them.
    if riff + 8 > len(data) or not any(data[: riff + 8][-256:]):
        return Header("WEBP", width, height, ends_early)

    def load() -> Image.Image:
        image = WebPImageFile(_ShortReads(data))
        # All pixels are there when Pillow looks for them, so that nothing depends on its limit for a block.
        image.decodermaxblock = 4 * image.width * image.height
        image.load()
        return image

    return Header("WEBP", width, height, load, orientation, profile)
