"""Reads the container of a TIFF."""

import io
import struct

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from car_damage.photo.colours import LARGEST
from car_damage.photo.formats.header import Header, ends_early, unusable
from car_damage.photo.formats.pixels import load as load_tiles
from car_damage.photo.reasons import CORRUPT, TRUNCATED, UNSUPPORTED_FORMAT

_TYPES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 5: ("I", 8), 7: ("B", 1)}
"""TIFF 6.0, section 2: BYTE, SHORT, LONG, RATIONAL, UNDEFINED -> struct letter, bytes."""
_SINGLE = frozenset({256, 257, 259, 262, 266, 274, 277, 278, 284, 317, 322, 323})
_TAGS = _SINGLE | {258, 273, 279, 320, 324, 325, 338, 339, 347, 529, 530, 531, 532}
"""Size, layout, compression and colours: the tags that the pixels depend on."""


def read(data: bytes) -> Header:
    """Read the first directory."""
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    entries: dict[int, tuple[int, int, bytes]] = {}
    values: dict[int, tuple[int, ...]] = {}
    profile = b""
    for entry in range(count):
        tag, kind, number, inline = struct.unpack_from(order + "HHI4s", data, directory + 2 + 12 * entry)
        if tag == 34675 and 4 < number <= LARGEST:
            (at,) = struct.unpack(order + "I", inline)
            profile = data[at : at + number]
        if tag not in _TAGS or tag in entries or kind not in _TYPES:
            continue
        letter, length = _TYPES[kind]
        at = struct.unpack(order + "I", inline)[0] if number * length > 4 else directory + 2 + 12 * entry + 8
        if number < 1 or number > 200_000 or (tag in _SINGLE and number > 1):
            raise unusable(CORRUPT, f"{number} values of TIFF tag {tag}")
        if at + number * length > len(data):
            raise unusable(TRUNCATED, f"TIFF tag {tag} points past the end of the file")
        entries[tag] = kind, number, inline
        values[tag] = struct.unpack_from(f"{order}{number * length // struct.calcsize(order + letter)}{letter}", data, at)
    if 256 not in values or 257 not in values:
        raise unusable(CORRUPT, "a TIFF without width or height")
    (width,), (height,) = values[256], values[257]
    orientation = values.get(274, (1,))[0]

    def load() -> Image.Image:
        offsets, lengths = values.get(273) or values.get(324) or (), values.get(279) or values.get(325) or ()
        if any(offset + length > len(data) for offset, length in zip(offsets, lengths, strict=False)):
            raise unusable(TRUNCATED, "a strip of the TIFF is past the end of the file")
        tile = values.get(322, (0,))[0], values.get(323, (0,))[0]
        if tile[0] > width + 4096 or tile[1] > height + 4096:
            raise unusable(CORRUPT, f"{width}x{height} pixels in tiles of {tile[0]}x{tile[1]}")
        if values.get(259, (1,))[0] == 1 and width * height * sum(values.get(258, (1,))) > 8 * len(data) + 8 * height:
            return ends_early()
        # The same file with a directory that has only the tags about pixels: no metadata that could fail, no further
        # directories, and no orientation that Pillow would apply a second time.
        image_tags = sorted(set(entries) - {274})
        listed = [struct.pack(order + "HHI4s", tag, *entries[tag]) for tag in image_tags]
        start = len(data) + len(data) % 2
        clean = b"".join(
            [
                data[:4],
                struct.pack(order + "I", start),
                data[8:].ljust(start - 8, b"\0"),
                struct.pack(order + "H", len(listed)),
                *listed,
                bytes(4),
            ]
        )
        try:
            image = TiffImageFile(io.BytesIO(clean))
        except SyntaxError as error:
            raise unusable(UNSUPPORTED_FORMAT, f"TIFF with {error}") from error
        return load_tiles(image, clean)

    return Header("TIFF", width, height, load, orientation if orientation in range(1, 9) else 1, profile)
