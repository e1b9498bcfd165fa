"""Reads the container of a HEIC or an AVIF: boxes of ISO/IEC 14496-12 around a photo that a video codec has coded (ISO/IEC 23008-12)."""

import io
import struct
from collections.abc import Callable
from typing import NoReturn

import pi_heif
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile

from car_damage.photo.formats import exif
from car_damage.photo.formats.header import Header, ends_early, unusable
from car_damage.photo.reasons import CORRUPT, TRUNCATED

_BRANDS = dict.fromkeys((b"avif", b"avis"), "AVIF") | dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC")
_ANY = (b"mif1", b"msf1", b"mif2")
"""Brands of files with a photo of any codec."""
_ERRORS = (OSError, ValueError, SyntaxError, RuntimeError, EOFError, NotImplementedError)
"""What Pillow and pi-heif raise for a file that they cannot read."""


def format_of(data: bytes) -> str:
    """AVIF or HEIC; for other files of ISO/IEC 14496-12, such as videos, their brand."""
    (length,) = struct.unpack_from(">I", data)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(length, 256), 4))]
    named = next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    return named or ("HEIC" if set(_ANY).intersection(brands) else f"a video or another file of the brand {brands[0]!r}")


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
        image = AvifImageFile(io.BytesIO(data))
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
    whole = _is_whole(data)
    try:
        header = opened()
    except _ERRORS as error:
        problem = f"{type(error).__name__}: {error}"

        def load() -> NoReturn:
            raise unusable(CORRUPT, problem)

        width, height = _declared_size(data)
        if not (whole or width):
            raise unusable(TRUNCATED, "the file ends before it describes a photo") from error
        if not width:
            load()
        return Header(format_, width, height, load if whole else ends_early)
    return header if whole else Header(header.format, header.width, header.height, ends_early, header.orientation)


def _is_whole(data: bytes) -> bool:
    """Whether the file has all of its boxes, and pixels at the end of the last one with pixels.

    An interrupted download into a file of the full size has zeros there, which the decoders would take for a picture. What a camera
    writes behind the boxes is no box.
    """
    at, described, pixels = 0, False, data
    while at + 16 <= len(data):
        length, kind, long = struct.unpack_from(">I4sQ", data, at)
        length = {0: len(data) - at, 1: long}.get(length, length)
        if not kind.isalnum() or length < 8:
            break
        if at + length > len(data):
            return False
        described = described or kind == b"meta"
        pixels = data[max(at, at + length - 256) : at + length] if kind == b"mdat" else pixels
        at += length
    return described and any(pixels[-256:])


def _declared_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the largest picture that the boxes declare, by ispe; zeros if there is none."""
    sizes, at = [(0, 0)], data.find(b"ispe")
    while 0 <= at <= len(data) - 16 and len(sizes) < 1000:
        sizes.append(struct.unpack_from(">II", data, at + 8))
        at = data.find(b"ispe", at + 16)
    return max(sizes, key=lambda size: size[0] * size[1])
