"""Takes the container of a photo apart: what it says before any pixel is decoded, and how its pixels are decoded.

Pillow's own classes read a file by process-wide switches (LOAD_TRUNCATED_IMAGES, MAX_IMAGE_PIXELS, GIF's
LOADING_STRATEGY, the warning filters), which anybody in the process may have turned. A verdict must depend on the
bytes alone. So each container is walked here, Pillow gets what its pixel decoders need and no metadata, and those
decoders are driven by `_run`, which asks for the last byte.

Travels inside every registered model, so it imports Pillow and our errors only.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, _webp
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from car_damage.errors import UnusablePhoto
from car_damage.reasons import CORRUPT, NOT_AN_IMAGE, TRUNCATED, UNSUPPORTED_FORMAT

SIZE = 224
"""Pixels: width and height of what the model sees. A JPEG need not be decoded at more than a little above it."""


@dataclass(frozen=True)
class Header:
    """What a container says before any pixel is decoded."""

    format: str
    width: int
    """Pixels as stored, before the orientation."""
    height: int
    load: Callable[[], Image.Image]
    """Decode all pixels; for JPEG at a fraction of the size that is still at least SIZE."""
    orientation: int = 1
    """EXIF, 1 to 8."""

    @property
    def upright(self) -> tuple[int, int]:
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def unusable(reason: str, detail: str) -> UnusablePhoto:
    """The error for a reason of `car_damage.reasons`, with a detail of at most 200 characters."""
    return UnusablePhoto(f"{reason}: {' '.join(detail.split())[:200]}")


def format_of(data: bytes) -> str | None:
    """The format that the first bytes announce, supported or not."""
    head = data[:32]
    if head.startswith(b"RIFF"):
        return "WEBP" if head[8:12] == b"WEBP" else None
    if head[4:8] == b"ftyp":
        return "HEIF, AVIF or a video"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def read_header(data: bytes) -> Header:
    """Walk the container as far as its pixels. Raises UnusablePhoto, or what Pillow or struct raise for hostile bytes."""
    format_ = format_of(data)
    if format_ is None:
        raise unusable(NOT_AN_IMAGE, f"begins with {data[:8]!r}")
    if format_ not in READERS:
        raise unusable(UNSUPPORTED_FORMAT, format_)
    try:
        return READERS[format_](data)
    except (struct.error, IndexError) as error:
        raise unusable(TRUNCATED, f"the {format_} header ends early") from error


def _jpeg(data: bytes) -> Header:  # noqa: PLR0912 - one branch a kind of marker
    kept, exif, format_, frame, at = [b"\xff\xd8"], b"", "JPEG", None, 2
    while True:
        at = data.find(b"\xff", at, at + 65_536)
        if at < 0:
            raise unusable(TRUNCATED, "the JPEG header ends early")
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _JPEG_BARE:
            continue
        if marker == 0xD9:
            raise unusable(CORRUPT, "a JPEG without a scan")
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from(">H", data, at)
        body = data[at + 2 : at + length]
        if at + length > len(data):
            raise unusable(TRUNCATED, "the JPEG header ends early")
        if marker in _JPEG_FRAMES:
            frame = marker, *struct.unpack_from(">BHHB", body)
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body[6:]
        if marker == 0xE2 and body.startswith(b"MPF\0"):
            format_ = "MPO"
        is_metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        says_colours = (marker == 0xE0 and body.startswith(b"JFIF\0") and length >= 16) or (marker == 0xEE and length >= 14)
        if not is_metadata or says_colours:
            kept.append(b"\xff" + bytes([marker]) + data[at : at + length])
        at += length
    if frame is None:
        raise unusable(CORRUPT, "a JPEG without a frame")
    marker, precision, height, width, components = frame
    if precision != 8 or components not in (1, 3, 4) or marker not in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA):
        raise unusable(UNSUPPORTED_FORMAT, f"JPEG of {precision} bits, {components} components, process {marker - 0xC0}")

    def load() -> Image.Image:
        # A scan of a progressive JPEG costs time for every pixel and next to no bytes.
        scans = data.count(b"\xff\xda", at - 2) if marker in (0xC2, 0xCA) else 1
        if scans * width * height > 4_000_000_000:
            raise unusable(CORRUPT, f"{scans} scans")
        # libjpeg fills what is missing with grey where the file ends in proper form. A Huffman-coded block of 8x8 takes
        # two bits at least, one for its mean and one for its end: a file with less than that has lost its pixels.
        blocks = -(-width // 8) * -(-height // 8)
        if marker in (0xC0, 0xC1) and 8 * (len(data) - at) < 2 * blocks:
            raise unusable(TRUNCATED, f"{len(data) - at} bytes cannot hold {width}x{height} pixels")
        clean = b"".join([*kept, b"\xff\xda", data[at:]])
        image = JpegImageFile(io.BytesIO(clean))
        image.draft(None, (SIZE, SIZE))
        return _load(image, clean)

    return Header(format_, width, height, load, _orientation(exif))


_JPEG_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""Markers that stand alone, without a length."""
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _png(data: bytes) -> Header:
    kept: dict[bytes, bytes] = {}
    exif, at = b"", 8
    idat: list[bytes] = []
    if data[12:16] != b"IHDR":
        raise unusable(CORRUPT, "a PNG that does not begin with IHDR")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)

    def load() -> Image.Image:
        pixels = b"".join(idat)
        row = (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) + 7) // 8
        # Deflate packs at most 1032 bytes into one (zlib's "Technical Details"): no need to try.
        if height * row > 1032 * len(pixels) + 1032:
            raise unusable(TRUNCATED, f"{len(pixels)} bytes cannot hold {width}x{height} pixels")
        image = PngImageFile(io.BytesIO(b"".join([data[:8], *kept.values(), struct.pack(">I", len(pixels)), b"IDAT"])))
        image.tile = [tile._replace(offset=0) for tile in image.tile]
        return _load(image, pixels)

    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            if width * height == 0:
                raise unusable(CORRUPT, "a PNG without pixels")
            return Header("PNG", width, height, _ends_early)
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf"):
            if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                raise unusable(CORRUPT, f"checksum of {kind.decode()}")
            if kind == b"tRNS" and length < {0: 2, 2: 6}.get(colour, 0):
                raise unusable(CORRUPT, f"a tRNS chunk of {length} bytes")
            if kind == b"IDAT":
                idat.append(data[at + 8 : end - 4])
            elif kind == b"eXIf":
                exif = data[at + 8 : end - 4]
            elif not idat:
                kept.setdefault(kind, data[at:end])
        if kind == b"IEND":
            return Header("PNG", width, height, load, _orientation(exif))
        at = end


def _ends_early() -> Image.Image:
    raise unusable(TRUNCATED, "the file ends before its last chunk")


def _webp_(data: bytes) -> Header:
    riff, kind = struct.unpack_from("<I4x4s", data, 4)
    orientation = 1
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
                orientation = _orientation(data[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0"))
            at += 8 + length + length % 2
    else:
        raise unusable(CORRUPT, f"WebP with a first chunk {kind!r}")
    # libwebp decodes zeros as if they were pixels. No encoder ends a photo with so many of them; a download that
    # was cut off in a file of its full size does.
    if riff + 8 > len(data) or not any(data[: riff + 8][-256:]):
        return Header("WEBP", width, height, _ends_early)

    def load() -> Image.Image:
        # Not through WebPImageFile, which asks Pillow's process-wide limit of pixels.
        decoder = _webp.WebPAnimDecoder(data)
        frame = decoder.get_next()
        if frame is None:
            raise unusable(CORRUPT, "the first frame of the WebP cannot be decoded")
        raw_mode = decoder.get_info()[-1]
        return Image.frombytes("RGB" if raw_mode == "RGBX" else "RGBA", (width, height), frame[0], "raw", raw_mode)

    return Header("WEBP", width, height, load, orientation)


def _bmp(data: bytes) -> Header:
    image = BmpImageFile(io.BytesIO(data))
    width, height = image.size
    if image.info["compression"] in (1, 2):
        # Pillow unpacks these pixel by pixel in Python: seconds for a file of a few bytes.
        raise unusable(UNSUPPORTED_FORMAT, "BMP with run-length coding")

    def load() -> Image.Image:
        _, _, offset, args = image.tile[0]
        stride = args[1] if isinstance(args, tuple) else 0
        if offset + stride * (height - 1) > len(data):
            return _ends_early()
        loaded = _load(image, data)
        # The fourth byte of an uncompressed pixel means nothing, whatever BmpImagePlugin.USE_RAW_ALPHA says.
        return loaded.convert("RGB") if image.info["compression"] == 0 and loaded.mode == "RGBA" else loaded

    return Header("BMP", width, height, load)


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, palette, transparent = 13, b"", None
    if flags & 128:
        palette = data[at : at + (6 << (flags & 7))]
        at += 6 << (flags & 7)
    while data[at] != 0x2C:
        if data[at] != 0x21:
            raise unusable(CORRUPT, "a GIF without an image")
        if data[at + 1] == 0xF9 and data[at + 2] >= 4:
            transparent = data[at + 6] if data[at + 3] & 1 else None
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, at + 1)
    at += 10
    if flags & 128:
        palette = data[at : at + (6 << (flags & 7))]
        at += 6 << (flags & 7)
    width, height = max(width, left + frame_width), max(height, top + frame_height)
    code_bits = data[at]

    def load() -> Image.Image:
        frame = Image.new("P" if palette else "L", (frame_width, frame_height))
        if palette:
            frame.putpalette(palette)
        extents = (0, 0, frame_width, frame_height)
        _run(frame, ("gif", extents, at + 1, (code_bits, bool(flags & 64), -1)), (), data)
        if transparent is not None:
            frame.info["transparency"] = transparent
        elif (frame_width, frame_height) == (width, height):
            return frame
        over = frame.convert("RGBA")
        canvas = Image.new("RGBA", (width, height), "white")
        canvas.paste(over, (left, top), over)
        return canvas

    return Header("GIF", width, height, load)


def _tiff(data: bytes) -> Header:
    order = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    entries: dict[int, tuple[int, int, bytes]] = {}
    values: dict[int, tuple[int, ...]] = {}
    for entry in range(count):
        tag, kind, number, inline = struct.unpack_from(order + "HHI4s", data, directory + 2 + 12 * entry)
        if tag not in _TIFF_TAGS or tag in entries or kind not in _TIFF_TYPES:
            continue
        letter, length = _TIFF_TYPES[kind]
        at = struct.unpack(order + "I", inline)[0] if number * length > 4 else directory + 2 + 12 * entry + 8
        if number < 1 or number > 200_000 or (tag in _TIFF_SINGLE and number > 1):
            raise unusable(CORRUPT, f"{number} values of TIFF tag {tag}")
        if at + number * length > len(data):
            raise unusable(TRUNCATED, f"TIFF tag {tag} points behind the end of the file")
        entries[tag] = kind, number, inline
        values[tag] = struct.unpack_from(f"{order}{number * length // struct.calcsize(order + letter)}{letter}", data, at)
    if 256 not in values or 257 not in values:
        raise unusable(CORRUPT, "a TIFF without width or height")
    (width,), (height,) = values[256], values[257]
    orientation = values.get(274, (1,))[0]

    def load() -> Image.Image:
        offsets, lengths = values.get(273) or values.get(324) or (), values.get(279) or values.get(325) or ()
        if any(offset + length > len(data) for offset, length in zip(offsets, lengths, strict=False)):
            raise unusable(TRUNCATED, "a strip of the TIFF lies behind the end of the file")
        tile = values.get(322, (0,))[0], values.get(323, (0,))[0]
        if tile[0] > width + 4096 or tile[1] > height + 4096:
            raise unusable(CORRUPT, f"{width}x{height} pixels in tiles of {tile[0]}x{tile[1]}")
        if values.get(259, (1,))[0] == 1 and width * height * sum(values.get(258, (1,))) > 8 * len(data) + 8 * height:
            return _ends_early()
        # The same file with a directory of nothing but what describes pixels: no metadata to stumble over, no
        # chain of further directories, no orientation that Pillow would apply a second time.
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
        return _load(image, clean)

    return Header("TIFF", width, height, load, orientation if orientation in range(1, 9) else 1)


_TIFF_TYPES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 5: ("I", 8), 7: ("B", 1)}
"""TIFF 6.0, section 2: BYTE, SHORT, LONG, RATIONAL, UNDEFINED: struct letter, bytes."""
_TIFF_SINGLE = frozenset({256, 257, 259, 262, 266, 274, 277, 278, 284, 317, 322, 323})
_TIFF_TAGS = _TIFF_SINGLE | {258, 273, 279, 320, 324, 325, 338, 339, 347, 529, 530, 531, 532}
"""Size, layout, compression and colours: all that decides about pixels."""


READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp_,
    "BMP": _bmp,
    "GIF": _gif,
    "TIFF": _tiff,
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


def _orientation(exif: bytes) -> int:
    """The orientation that an EXIF block (a small TIFF) gives; 1 where it gives none or is broken."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, directory + 2 + 12 * entry)
            if tag == 274 and kind == 3:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _load(image: ImageFile, data: bytes) -> Image.Image:
    """Decode every tile of an image whose header Pillow has read; tiles lie in `data`."""
    # Given here because TIFF would otherwise ask Pillow's process-wide limit of pixels before it makes its own.
    image.im = Image.new(image.mode, image.size).im
    image.load_prepare()
    extents = [tile[1] or (0, 0, *image.size) for tile in image.tile]
    if sum((right - left) * (lower - upper) for left, upper, right, lower in extents) > 8 * image.width * image.height:
        # Planes lie over each other, one for each colour; more than that is there to cost time.
        raise unusable(CORRUPT, f"{len(extents)} tiles that lie over each other")
    for tile in image.tile:
        _run(image, tile, image.decoderconfig, data)
    image.tile = []
    return image


def _run(image: Image.Image, tile: tuple[Any, ...], config: tuple[Any, ...], data: bytes) -> None:
    """Run one of Pillow's pixel decoders from a tile's offset to the end of `data`.

    `ImageFile.load` does the same but believes LOAD_TRUNCATED_IMAGES, and forgets errors of all tiles but the last.
    """
    name, extents, offset, args = tile
    decoder = Image._getdecoder(image.mode, name, args, config)  # noqa: SLF001 - there is no public way to the decoders
    try:
        decoder.setimage(image.im, extents)
        consumed, status = decoder.decode(memoryview(data)[offset:])
    finally:
        decoder.cleanup()
    if consumed >= 0:
        raise unusable(TRUNCATED, "the pixels end early")
    if status < 0:
        raise unusable(CORRUPT, f"the {name} decoder gives up with status {status}")
