"""Reads the container of a JPEG, or of an MPO, which holds several."""

import io
import struct

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from car_damage.photo.formats.exif import orientation
from car_damage.photo.formats.header import Header, unusable
from car_damage.photo.formats.pixels import load as load_tiles
from car_damage.photo.limits import SIZE
from car_damage.photo.reasons import CORRUPT, TRUNCATED, UNSUPPORTED_FORMAT

_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""Markers without a length and a body."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read(data: bytes) -> Header:  # noqa: PLR0912 - one branch per kind of marker
    """Read the markers up to the first scan. The pixels are decoded without the metadata."""
    kept, exif, format_, frame, at = [b"\xff\xd8"], b"", "JPEG", None, 2
    while True:
        at = data.find(b"\xff", at, at + 65_536)
        if at < 0:
            raise unusable(TRUNCATED, "the JPEG header ends early")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _BARE:
            continue
        if marker == 0xD9:
            raise unusable(CORRUPT, "a JPEG without a scan")
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from(">H", data, at)
        body = data[at + 2 : at + length]
        if at + length > len(data):
            raise unusable(TRUNCATED, "the JPEG header ends early")
        if marker in _FRAMES:
            frame = marker, *struct.unpack_from(">BHHB", body)
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body[6:]
        if marker == 0xE2 and body.startswith(b"MPF\0"):
            format_ = "MPO"
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        has_colours = (marker == 0xE0 and body.startswith(b"JFIF\0") and length >= 16) or (marker == 0xEE and length >= 14)
        if not is_metadata or has_colours:
            kept.append(b"\xff" + bytes([marker]) + data[at : at + length])
        at += length
    if frame is None:
        raise unusable(CORRUPT, "a JPEG without a frame")
    marker, precision, height, width, components = frame
    if precision != 8 or components not in (1, 3, 4) or marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise unusable(UNSUPPORTED_FORMAT, f"JPEG of {precision} bits, {components} components, process {marker - 0xC0}")

    def load() -> Image.Image:
        # Each scan of a progressive JPEG costs time for every pixel, and almost no bytes.
        scans = data.count(b"\xff\xda", at - 2) if marker in (0xC2, 0xCA) else 1
        if scans * width * height > 4_000_000_000:
            raise unusable(CORRUPT, f"{scans} scans")
        # libjpeg fills missing pixels with grey if the file has a valid end marker. A Huffman-coded block of 8x8 pixels takes
        # at least two bits, one for its mean and one for its end: a file with fewer bits has lost pixels.
        blocks = -(-width // 8) * -(-height // 8)
        if marker in (0xC0, 0xC1) and 8 * (len(data) - at) < 2 * blocks:
            raise unusable(TRUNCATED, f"{len(data) - at} bytes cannot hold {width}x{height} pixels")
        clean = b"".join([*kept, b"\xff\xda", data[at:]])
        image = JpegImageFile(io.BytesIO(clean))
        image.draft(None, (SIZE, SIZE))
        return load_tiles(image, clean)

    return Header(format_, width, height, load, orientation(exif))
