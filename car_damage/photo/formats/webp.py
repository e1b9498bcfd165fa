"""Reads the container of a WebP."""

import struct

from PIL import Image, _webp

from car_damage.photo.formats import exif
from car_damage.photo.formats.header import Header, ends_early, unusable
from car_damage.photo.reasons import CORRUPT


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
        # WebPImageFile would check Pillow's process-wide limit of pixels.
        decoder = _webp.WebPAnimDecoder(data)
        frame = decoder.get_next()
        if frame is None:
            raise unusable(CORRUPT, "the first frame of the WebP cannot be decoded")
        raw_mode = decoder.get_info()[-1]
        return Image.frombytes("RGB" if raw_mode == "RGBX" else "RGBA", (width, height), frame[0], "raw", raw_mode)

    return Header("WEBP", width, height, load, orientation, profile)
