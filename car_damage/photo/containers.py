"""Reads the container of a photo: its format, its size and its orientation, before pixels are decoded.

Pillow's own classes obey process-wide switches (LOAD_TRUNCATED_IMAGES, MAX_IMAGE_PIXELS, GIF's LOADING_STRATEGY, the warning
filters), which any code in the process may have changed. A verdict must depend only on the bytes. So
`car_damage.photo.formats` reads each container itself, as far as the size, and runs Pillow's pixel decoders by `Image.frombytes`, which
obeys no switch and detects truncated files. WebP and AVIF have no such decoder: their classes in Pillow load the whole frame.

Every registered model contains a copy of this module and of the formats, so they import only Pillow, pi-heif, and modules that are
copied too.
"""

import struct
from collections.abc import Callable

from car_damage.photo.formats import bmp, gif, heif, jpeg, png, tiff, webp
from car_damage.photo.formats.header import Header, unusable
from car_damage.photo.reasons import NOT_AN_IMAGE, TRUNCATED, UNSUPPORTED_FORMAT

READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": jpeg.read,
    "PNG": png.read,
    "WEBP": webp.read,
    "HEIC": heif.read_heic,
    "AVIF": heif.read_avif,
    "BMP": bmp.read,
    "GIF": gif.read,
    "TIFF": tiff.read,
}
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    *((b"P%d%c" % (number, space), "netpbm") for number in range(1, 8) for space in b" \t\r\n"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR"),
    (b"8BPS", "PSD"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"%!PS", "EPS"),
    (b"\x8aMNG", "MNG"),
    (b"icns", "ICNS"),
    (b"<svg", "SVG"),
)


def format_of(data: bytes) -> str | None:
    """The format that the first bytes declare, supported or not; None if they are not an image."""
    head = data[:32]
    if head.startswith(b"RIFF"):
        return "WEBP" if head[8:12] == b"WEBP" else None
    if head[4:8] == b"ftyp":
        return heif.format_of(data)
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def read_header(data: bytes) -> Header:
    """Read the container up to its pixels. Raises UnusablePhoto, or the errors of Pillow and struct for hostile bytes."""
    format_ = format_of(data)
    if format_ is None:
        raise unusable(NOT_AN_IMAGE, f"starts with {data[:8]!r}")
    if format_ not in READERS:
        raise unusable(UNSUPPORTED_FORMAT, format_)
    try:
        return READERS[format_](data)
    except (struct.error, IndexError) as error:
        raise unusable(TRUNCATED, f"the {format_} header ends early") from error
