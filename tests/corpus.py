"""Photos of every format and every kind of damage, made by code. The repository contains none."""

import io
import random
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
import pillow_heif
from PIL import Image


def picture(seed: int = 0, width: int = 320, height: int = 240) -> Image.Image:
    """Soft random colours with structure at several scales, so that hashes and decoders have detail to work with."""
    random_ = np.random.default_rng(seed)
    coarse = Image.fromarray(random_.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    fine = Image.fromarray(random_.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(coarse, fine, 0.25)


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def heic(image: Image.Image, exif: bytes | None = None, **options: object) -> bytes:
    """A HEIC as libheif writes it, with the turn of this EXIF block. Pillow itself writes none."""
    buffer = io.BytesIO()
    file = pillow_heif.from_pillow(image)
    file.info["exif"] = exif
    file.save(buffer, **options)
    return buffer.getvalue()


@cache
def photos(seed: int = 0, width: int = 320, height: int = 240) -> Mapping[str, bytes]:
    """Valid photos by name. The first word of the name is the format."""
    image = picture(seed, width, height)
    grey = image.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    clear = image.convert("RGBA")
    clear.putalpha(grey)
    valid = {
        "JPEG": encoded(image, "JPEG"),
        "JPEG progressive": encoded(image, "JPEG", progressive=True),
        "JPEG grey": encoded(grey, "JPEG"),
        "JPEG cmyk": encoded(image.convert("CMYK"), "JPEG"),
        "JPEG restart markers": encoded(image, "JPEG", restart_marker_rows=1),
        "MPO": encoded(image, "MPO", save_all=True, append_images=[picture(seed + 1, width, height)]),
        "PNG": encoded(image, "PNG"),
        "PNG palette": encoded(image.quantize(64), "PNG"),
        "PNG alpha": encoded(clear, "PNG"),
        "PNG grey alpha": encoded(clear.convert("LA"), "PNG"),
        "PNG 16 bit grey": encoded(deep, "PNG"),
        "PNG one bit": encoded(image.convert("1"), "PNG"),
        "WEBP": encoded(image, "WEBP"),
        "WEBP lossless": encoded(image, "WEBP", lossless=True),
        "WEBP alpha": encoded(clear, "WEBP"),
        "HEIC": heic(image),
        "HEIC alpha": heic(clear),
        "AVIF": encoded(image, "AVIF", speed=10),
        "AVIF alpha": encoded(clear, "AVIF", speed=10),
        "BMP": encoded(image, "BMP"),
        "BMP 32 deep": encoded(clear, "BMP"),
        "BMP palette": encoded(image.quantize(64), "BMP"),
        "GIF": encoded(image, "GIF"),
        "GIF animated": encoded(image, "GIF", save_all=True, append_images=[picture(seed + 1, width, height)]),
        "TIFF": encoded(image, "TIFF"),
        "TIFF lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "TIFF deflate": encoded(image, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF jpeg": encoded(image, "TIFF", compression="jpeg"),
        "TIFF cmyk": encoded(image.convert("CMYK"), "TIFF"),
        "TIFF 16 bit grey": encoded(deep, "TIFF"),
        "TIFF 32 bit": encoded(grey.convert("I"), "TIFF"),
        "TIFF float": encoded(grey.convert("F"), "TIFF"),
    }
    return MappingProxyType(valid)


@cache
def broken() -> Mapping[str, tuple[bytes, str]]:
    """Unusable photos by name, each with its expected reason."""
    image, small = picture(), picture(0, 40, 300)
    jpeg, png = encoded(image, "JPEG"), encoded(image, "PNG")
    scan = jpeg.index(b"\xff\xda")
    cut = {f"cut {name}": (data[: len(data) // 4 if name == "MPO" else len(data) // 2], "truncated") for name, data in photos().items()}
    bad = {
        "nothing": (b"", "empty"),
        "text": (b"this is not a photo\n" * 50, "not an image"),
        "garbage": (np.random.default_rng(1).bytes(5000), "not an image"),
        "zeros": (bytes(5000), "not an image"),
        "netpbm": (encoded(image, "PPM"), "unsupported format"),
        "icon": (encoded(image, "ICO"), "unsupported format"),
        "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), "unsupported format"),
        "video": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100), "unsupported format"),
        "only a heic's brands": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "truncated"),
        "heic with a tail of zeros": (with_tail(heic(image), 400), "truncated"),
        "avif with a tail of zeros": (with_tail(encoded(image, "AVIF", speed=10), 400), "truncated"),
        "jpeg of a size that lies": (jpeg.replace(struct.pack(">HH", 240, 320), struct.pack(">HH", 5_000, 5_000), 1), "truncated"),
        "12 bit jpeg": (jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "unsupported format"),
        "only a jpeg's magic": (b"\xff\xd8\xff", "truncated"),
        "jpeg with a tail of zeros": (jpeg[: scan + 2000] + bytes(len(jpeg) - scan - 2000), "truncated"),
        "webp with a tail of zeros": (encoded(image, "WEBP")[:2000].ljust(len(encoded(image, "WEBP")), b"\0"), "truncated"),
        "jpeg without tables": (jpeg.replace(b"\xff\xdb", b"\xff\xfe"), "corrupt"),
        "png with a flipped bit": (png[:5000] + bytes([png[5000] ^ 1]) + png[5001:], "corrupt"),
        "png without pixels": (bomb(320, 240), "truncated"),
        "small jpeg": (encoded(small, "JPEG"), "too small"),
        "small gif": (encoded(small, "GIF"), "too small"),
        "png bomb": (bomb(60_000, 60_000), "too many pixels"),
        "jpeg bomb": (jpeg.replace(struct.pack(">HH", 240, 320), struct.pack(">HH", 65_000, 65_000), 1), "too many pixels"),
        "gif bomb": (b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + encoded(image, "GIF")[10:], "too many pixels"),
        "bmp bomb": (
            encoded(image, "BMP").replace(struct.pack("<II", 320, 240), struct.pack("<II", 100_000, 100_000), 1),
            "too many pixels",
        ),
        "webp bomb": (b"RIFF" + struct.pack("<I4s4sIIII", 22, b"WEBP", b"VP8X", 10, 0, 0xFFFFFF, 0xFFFF), "too many pixels"),
        "tiff bomb": (tiff_bomb(), "too many pixels"),
        "heic bomb": (heic(image).replace(struct.pack(">II", 320, 240), struct.pack(">II", 60_000, 60_000)), "too many pixels"),
        "avif bomb": (
            encoded(image, "AVIF", speed=10).replace(struct.pack(">II", 320, 240), struct.pack(">II", 60_000, 60_000)),
            "too many pixels",
        ),
    }
    return MappingProxyType(cut | bad)


def with_tail(data: bytes, zeros: int) -> bytes:
    """The photo with zeros in place of its last bytes, as an interrupted download leaves it."""
    return data[:-zeros] + bytes(zeros)


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width: int, height: int, extra: bytes = b"") -> bytes:
    """A PNG of a few bytes that declares this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def tiff_bomb() -> bytes:
    """A TIFF that declares 60,000 x 60,000 pixels."""
    data = encoded(picture(), "TIFF")
    for tag, side in ((256, 320), (257, 240)):
        for kind, letter in ((3, "H"), (4, "I")):
            entry = struct.pack("<HHI" + letter, tag, kind, 1, side)
            data = data.replace(entry, struct.pack("<HHI" + letter, tag, kind, 1, 60_000), 1)
    return data


def with_orientation(image: Image.Image, orientation: int, format_: str) -> bytes:
    """A photo with this orientation in its EXIF block."""
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(image, format_, exif=exif)


def fuzzed(count: int, seed: int, more: Mapping[str, bytes] = MappingProxyType({})) -> Iterator[tuple[str, bytes]]:
    """File names and bytes of `count` photos, each damaged in one of several ways. The same seed gives the same photos.

    Args:
        count: number of photos.
        seed: of the damage.
        more: photos to damage besides those of `photos`.
    """
    random_ = random.Random(seed)  # noqa: S311 - damage, not secrets
    sources = [*photos(seed, 160, 120).items(), *more.items()]
    magics = [data[:16] for _, data in sources]
    for number in range(count):
        name, data = random_.choice(sources)
        way = random_.choice(list(_WAYS))
        suffix = random_.choice([".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".heic", ".avif", ""])
        yield f"{number:05} {name} {way}{suffix}", _WAYS[way](random_, data, magics)


def _cut(random_: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: random_.randrange(len(data))]


def _flip(random_: random.Random, data: bytes, _: list[bytes], reach: int | None = None) -> bytes:
    flipped = bytearray(data)
    for _ in range(random_.choice([1, 3, 10, 100])):
        flipped[random_.randrange(min(len(data), reach or len(data)))] ^= 1 << random_.randrange(8)
    return bytes(flipped)


def _flip_header(random_: random.Random, data: bytes, magics: list[bytes]) -> bytes:
    return _flip(random_, data, magics, 200)


def _flip_end(random_: random.Random, data: bytes, magics: list[bytes]) -> bytes:
    """Flip bits near the end, where a TIFF written by Pillow has its directory."""
    return data[:-200] + _flip(random_, data[-200:], magics)


def _garbage_in_front(random_: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return random_.randbytes(random_.randrange(1, 50)) + data


def _garbage_behind(random_: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data + random_.randbytes(random_.randrange(1, 5000))


def _garbage_within(random_: random.Random, data: bytes, _: list[bytes]) -> bytes:
    at = random_.randrange(len(data))
    return data[:at] + random_.randbytes(random_.randrange(1, 300)) + data[at + random_.randrange(300) :]


def _another_magic(random_: random.Random, data: bytes, magics: list[bytes]) -> bytes:
    magic = random_.choice(magics)
    return magic + data[len(magic) :]


def _huge(random_: random.Random, data: bytes, _: list[bytes]) -> bytes:
    """Replace every number that may be a declared size with a huge one."""
    side = random_.choice([5_000, 9_000, 16_383, 65_535])
    for order in "<>":
        for letter in "HI":
            for one in (160, 120):
                data = data.replace(struct.pack(order + letter, one), struct.pack(order + letter, side), 1)
    return data


def _zeros(random_: random.Random, data: bytes, _: list[bytes]) -> bytes:
    return data[: random_.randrange(len(data))].ljust(len(data), b"\0")


def _doubled(random_: random.Random, data: bytes, _: list[bytes]) -> bytes:
    start = random_.randrange(len(data))
    end = min(len(data), start + random_.randrange(1, 2000))
    return data[:end] + data[start:]


def _whole(_: random.Random, data: bytes, __: list[bytes]) -> bytes:
    return data


_WAYS = {
    "cut": _cut,
    "flipped": _flip,
    "flipped header": _flip_header,
    "flipped end": _flip_end,
    "garbage in front": _garbage_in_front,
    "garbage behind": _garbage_behind,
    "garbage within": _garbage_within,
    "another magic": _another_magic,
    "huge": _huge,
    "zeros": _zeros,
    "doubled": _doubled,
    "whole": _whole,
}
