"""Reads the container of a JPEG, or of an MPO, which holds several."""

import re
import struct
from collections.abc import Callable, Iterator

from PIL import Image

from car_damage.photo.formats import samsung
from car_damage.photo.formats.exif import orientation
from car_damage.photo.formats.header import Header, unusable
from car_damage.photo.formats.pixels import run
from car_damage.photo.limits import SIZE
from car_damage.photo.reasons import CORRUPT, TRUNCATED, UNSUPPORTED_FORMAT

_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""Markers without a length and a body."""
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""A marker with a body, or the end mark. Between the pixels of a scan there are only markers without a body, and 0xFF as 0xFF00."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_END = b"\xff\xd9"
_MODES = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}
"""Components -> mode and raw mode of Pillow. Adobe writes CMYK inverted, and everybody follows."""
_OTHER_PIXELS = b"\x5a" * 4096
"""What no decoder makes of missing pixels."""


def segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Marker, position behind the marker, and body of each segment up to the first scan, whose body is left out.

    Raises UnusablePhoto, or the errors of struct and of indices, for hostile bytes.
    """
    at = 2
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
            yield marker, at, b""
            return
        (length,) = struct.unpack_from(">H", data, at)
        body = data[at + 2 : at + length]
        if at + length > len(data):
            raise unusable(TRUNCATED, "the JPEG header ends early")
        yield marker, at, body
        at += length


def read(data: bytes) -> Header:
    """Read the markers up to the first scan."""
    exif, format_, frame, at = b"", "JPEG", None, 2
    profile: dict[int, bytes] = {}
    for marker, at, body in segments(data):  # noqa: B007 - the last position is that of the scan
        if marker in _FRAMES:
            frame = marker, *struct.unpack_from(">BHHB", body)
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body[6:]
        if marker == 0xE2 and body.startswith(b"MPF\0"):
            format_ = "MPO"
        if marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile.setdefault(body[12], body[14:])
    if frame is None:
        raise unusable(CORRUPT, "a JPEG without a frame")
    marker, precision, height, width, components = frame
    if precision != 8 or components not in _MODES or marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise unusable(UNSUPPORTED_FORMAT, f"JPEG of {precision} bits, {components} components, process {marker - 0xC0}")

    def load(pixels: int = 0) -> Image.Image:
        # Each scan of a progressive JPEG costs time for every pixel, and almost no bytes.
        scans, ended = (1, True) if marker in (0xC0, 0xC1) else _scans(data, at - 2)
        if scans * width * height > 4_000_000_000:
            raise unusable(CORRUPT, f"{scans} scans")
        if marker in (0xC9, 0xCA) and not ended:
            # A decoder of arithmetic coding takes what is missing for zeros.
            raise unusable(TRUNCATED, "the file has no end mark")
        # libjpeg fills missing pixels with grey if the file has a valid end marker. A Huffman-coded block of 8x8 pixels takes
        # at least two bits, one for its mean and one for its end: a file with fewer bits has lost pixels.
        blocks = -(-width // 8) * -(-height // 8)
        if marker in (0xC0, 0xC1) and 8 * (len(data) - at) < 2 * blocks:
            raise unusable(TRUNCATED, f"{len(data) - at} bytes cannot hold {width}x{height} pixels")
        end = samsung.trailer(data)
        if end and data[end - 2 : end] != _END and marker in (0xC0, 0xC1) and data[at + 2] == components:
            return _without_end(data[:end], lambda whole: decoded(whole, pixels))
        return decoded(data, pixels)

    def decoded(data: bytes, pixels: int) -> Image.Image:
        enough = (scale for scale in (8, 4, 2) if min(width, height) >= scale * SIZE and width * height >= pixels * scale**2)
        scale = next(enough, 1)
        mode, raw = _MODES[components]
        return run(mode, (-(-width // scale), -(-height // scale)), data, "jpeg", (raw, "", scale, 0))

    return Header(format_, width, height, load, orientation(exif), b"".join(profile[part] for part in sorted(profile)), reduced=load)


def _scans(data: bytes, at: int) -> tuple[int, bool]:
    """The number of scans up to the end mark, behind which a camera may have written another photo or a video; whether there is one."""
    scans = 0
    while found := _MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        if marker == _END[1]:
            return scans, True
        scans += marker == 0xDA
        at += struct.unpack_from(">H", data, at)[0] if at + 2 <= len(data) else 0
    return scans, False


def _without_end(pixels: bytes, decoded: Callable[[bytes], Image.Image]) -> Image.Image:
    """Decode a file that has all pixels in one scan, and no end mark.

    Its pixels are complete if they are the same, whatever follows them.
    """
    image = decoded(pixels + _END)
    if image.tobytes() != decoded(pixels + _OTHER_PIXELS + _END).tobytes():
        raise unusable(TRUNCATED, "the pixels end early")
    return image
