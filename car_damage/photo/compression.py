"""Estimates the quality with which a JPEG was compressed, from its quantisation table."""

import struct

import numpy as np

from car_damage.errors import UnusablePhoto
from car_damage.photo.formats.jpeg import segments

_LUMINANCE = np.array(
    [
        *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51),
        *(56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92),
        *(101, 103, 99),
    ]
)
"""The table of ITU-T T.81, annex K.1, in the zigzag order of files. libjpeg takes it for the quality 50."""


def jpeg_quality(data: bytes) -> int | None:
    """The quality, from 1 to 100, whose table by libjpeg is nearest to that of the luminance; None for a file that is no JPEG.

    libjpeg (jcparam.c of the Independent JPEG Group) multiplies the table of the standard by 5000 / quality percent below the quality
    50, and by 200 - 2 x quality percent from there, and keeps each number within 1 and 255. Cameras with tables of their own get the
    quality of about the same compression.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    try:
        bodies = [body for marker, _, body in segments(data) if marker == 0xDB]
    except (UnusablePhoto, struct.error, IndexError):
        return None
    table = next((table for body in bodies for number, table in _tables(body) if number == 0), None)
    if table is None or len(table) < _LUMINANCE.size:
        return None
    return 1 + int(np.abs(_BY_QUALITY - table).sum(axis=1).argmin())


def _tables(body: bytes) -> list[tuple[int, "np.ndarray[tuple[int], np.dtype[np.int64]]"]]:
    """Number and values of each table in the body of a DQT segment."""
    found, at = [], 0
    while at < len(body):
        precision, number = divmod(body[at], 16)
        size = 128 if precision else 64
        values = np.frombuffer(body[at + 1 : at + 1 + size], ">u2" if precision else "u1")
        found.append((number, values.astype(np.int64)))
        at += 1 + size
    return found


def _scaled(quality: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((_LUMINANCE * percent + 50) // 100).clip(1, 255)


_BY_QUALITY = np.stack([_scaled(quality) for quality in range(1, 101)])
"""(100, 64)."""
