"""Reads the container of a PNG."""

import io
import struct
import zlib

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from car_damage.photo.colours import LARGEST
from car_damage.photo.formats.exif import orientation
from car_damage.photo.formats.header import Header, ends_early, unusable
from car_damage.photo.formats.pixels import load as load_tiles
from car_damage.photo.reasons import CORRUPT, TRUNCATED


def read(data: bytes) -> Header:
    """Read all chunks, and verify the checksums of those that are used."""
    kept: dict[bytes, bytes] = {}
    exif, profile, at = b"", b"", 8
    idat: list[bytes] = []
    if data[12:16] != b"IHDR":
        raise unusable(CORRUPT, "a PNG that does not start with IHDR")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)

    def load() -> Image.Image:
        pixels = b"".join(idat)
        row = (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) + 7) // 8
        # Deflate compresses at most 1032 to 1 (zlib's "Technical Details").
        if height * row > 1032 * len(pixels) + 1032:
            raise unusable(TRUNCATED, f"{len(pixels)} bytes cannot hold {width}x{height} pixels")
        image = PngImageFile(io.BytesIO(b"".join([data[:8], *kept.values(), struct.pack(">I", len(pixels)), b"IDAT"])))
        image.tile = [tile._replace(offset=0) for tile in image.tile]
        image.decoderconfig = (1,) if image.info.get("interlace") else ()
        return load_tiles(image, pixels)

    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            if width * height == 0:
                raise unusable(CORRUPT, "a PNG without pixels")
            return Header("PNG", width, height, ends_early)
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf"):
            if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                raise unusable(CORRUPT, f"wrong checksum of {kind.decode()}")
            if kind == b"tRNS" and length < {0: 2, 2: 6}.get(colour, 0):
                raise unusable(CORRUPT, f"a tRNS chunk of {length} bytes")
            if kind == b"IDAT":
                idat.append(data[at + 8 : end - 4])
            elif kind == b"eXIf":
                exif = data[at + 8 : end - 4]
            elif not idat:
                kept.setdefault(kind, data[at:end])
        elif kind == b"iCCP" and not idat:
            profile = profile or _profile(data[at + 8 : end - 4])
        if kind == b"IEND":
            return Header("PNG", width, height, load, orientation(exif), profile)
        at = end


def _profile(body: bytes) -> bytes:
    """The ICC profile in an iCCP chunk, of which no more than allowed is decompressed; empty if it is broken."""
    try:
        return zlib.decompressobj().decompress(body.partition(b"\0")[2][1:], LARGEST + 1)
    except zlib.error:
        return b""
