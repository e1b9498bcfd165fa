"""Reads the container of a HEIC or an AVIF: boxes of ISO/IEC 14496-12 around a photo that a video codec has coded (ISO/IEC 23008-12)."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import pi_heif
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile

from car_damage.photo.formats import boxes, exif
from car_damage.photo.formats.boxes import Items
from car_damage.photo.formats.codecs import CODECS, Pictures
from car_damage.photo.formats.header import Header, ends_early, unusable
from car_damage.photo.reasons import CORRUPT, TRUNCATED

_BRANDS = dict.fromkeys((b"avif", b"avis"), "AVIF") | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC")
_ANY = (b"mif1", b"msf1", b"mif2")
"""Brands of files with a photo of any codec."""
_ERRORS = (OSError, ValueError, SyntaxError, RuntimeError, EOFError, NotImplementedError)
"""What Pillow and pi-heif raise for a file that they cannot read."""
_UNREADABLE = (ValueError, KeyError, IndexError, struct.error)
"""What reading boxes and streams raises for hostile bytes."""
_PADDING = 64
"""Pixels of a side: codecs fill the last of their blocks."""
_LITTLE = 4_000_000
"""Pixels that cost nothing worth counting: the tiles of a small photo are larger than the photo."""
_WORK = 8
"""Times the pixels of the largest picture: a photo is decoded once as tiles, and once more for each of its further channels."""


def format_of(data: bytes) -> str:
    """AVIF or HEIC; for other files of ISO/IEC 14496-12, such as videos, their brand."""
    (length,) = struct.unpack_from(">I", data)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(length, 256), 4))]
    named = next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    if named or not set(_ANY).intersection(brands):
        return named or f"a video or another file of the brand {brands[0]!r}"
    content = _content(data)
    codec = content.items and content.items.codec()
    return CODECS.get(codec, f"a HEIF of the codec {codec!r}") if codec else "HEIC"


def read_heic(data: bytes) -> Header:
    """Read the boxes up to the pixels. libheif turns the photo upright."""

    def opened() -> Header:
        file = pi_heif.open_heif(io.BytesIO(data))
        if not len(file):
            raise ValueError("no photo in the file")
        width, height = file.size
        return Header("HEIC", width, height, lambda: _pixels(file), profile=file.info.get("icc_profile") or b"", alone=True)

    return _read(data, "HEIC", opened)


def read_avif(data: bytes) -> Header:
    """Read the boxes up to the pixels."""

    def opened() -> Header:
        # With the brand of a sequence, libavif would read a track instead of the photo.
        image = AvifImageFile(io.BytesIO(data[:8] + b"avif" + data[12:]))
        # All pixels are there when Pillow looks for them, so that nothing depends on its limit for a block.
        image.decodermaxblock = 4 * image.width * image.height

        def load() -> Image.Image:
            image.load()
            return image

        orientation = exif.orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
        profile = image.info.get("icc_profile", b"")
        return Header("AVIF", image.width, image.height, load, orientation, profile, alone=True)

    return _read(data, "AVIF", opened)


def _pixels(file: pi_heif.HeifFile) -> Image.Image:
    image: Image.Image = file.to_pillow()
    return image.convert("RGBA") if image.mode == "RGBa" else image


def _read(data: bytes, format_: str, opened: Callable[[], Header]) -> Header:
    """The header; where the file cannot be read, one with the size that the boxes declare."""
    content = _content(data)
    try:
        header = opened()
    except _ERRORS as error:
        width, height = _declared_size(data)
        if not (content.whole or width):
            raise unusable(TRUNCATED, "the file ends before it describes a photo") from error
        header = Header(format_, width, height, _fails(f"{type(error).__name__}: {error}"))
        if not width:
            header.load()
    if not content.whole:
        return replace(header, load=ends_early)
    try:
        return _bounded(header, Pictures(data, content.items)) if content.items else replace(header, load=_fails(content.problem))
    except _UNREADABLE as error:
        return replace(header, load=_fails(f"{type(error).__name__}: {error}"))


def _fails(problem: str) -> Callable[[], NoReturn]:
    def load() -> NoReturn:
        raise unusable(CORRUPT, problem)

    return load


def _bounded(header: Header, pictures: Pictures) -> Header:
    """The header, which loads nothing that is larger than the file says or takes much longer than its size."""
    (width, height), (coded_width, coded_height), work = pictures.declared(), pictures.coded(), pictures.work()
    header = replace(header, largest=(width, height))
    if coded_width * coded_height > (width + _PADDING) * (height + _PADDING):
        return replace(header, load=_fails(f"a picture of {coded_width}x{coded_height} in a file that declares {width}x{height}"))
    if work > _WORK * max(width * height, _LITTLE):
        return replace(header, load=_fails(f"the parts of one picture have {work} pixels, the largest picture is {width}x{height}"))
    return header


@dataclass(frozen=True)
class _Content:
    """What the boxes of a file say."""

    whole: bool
    """Whether the file has all of its boxes and all bytes of its pictures."""
    items: Items | None
    """None if they cannot be read."""
    problem: str
    """Why they cannot be read."""


def _content(data: bytes) -> _Content:
    """Read the boxes. What a camera writes behind them is no box."""
    items, problem = None, "no box meta"
    try:
        for kind, start, stop in boxes.boxes(data, 0, len(data)):
            if stop > len(data):
                if kind.isalnum():
                    return _Content(False, items, problem)
                break
            if kind == b"meta":
                items, problem = (None, "two boxes meta") if problem != "no box meta" else (boxes.items(data, start, stop), "")
    except _UNREADABLE as error:
        problem = problem and f"{type(error).__name__}: {error}"
    return _Content(_has_pixels(data, items) if items else problem != "no box meta" and any(data[-256:]), items, problem)


def _has_pixels(data: bytes, items: Items) -> bool:
    """Whether all bytes of the pictures are there.

    An interrupted download into a file of the full size has zeros at their ends, which the decoders would take for a picture. No
    picture of HEVC or AV1 ends in zeros.
    """
    extents = [extent for item in items.every.values() if item.kind in CODECS for extent in item.extents]
    return all(stop <= len(data) and any(data[max(start, stop - 256) : stop]) for start, stop in extents)


def _declared_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the largest picture that the boxes declare, by ispe; zeros if there is none."""
    sizes, at = [(0, 0)], data.find(b"ispe")
    while 0 <= at <= len(data) - 16 and len(sizes) < 1000:
        sizes.append(struct.unpack_from(">II", data, at + 8))
        at = data.find(b"ispe", at + 16)
    return max(sizes, key=lambda size: size[0] * size[1])
