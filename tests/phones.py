"""Photos as phones write them, made by code: with videos, gain maps, trailers and wide colours."""

import base64
import io
import random
import struct

import numpy as np
import pillow_heif
from PIL import Image

from tests.corpus import encoded, heic, picture

END = b"\xff\xd9"
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//yQALCABA"
    "AEABAREA/8wABgAQEAX/2gAIAQEAAD8A/wC0RQZ1OZ9wEJoLRS5CGBGMEkJq7qWltRyo/9k="
)
"""A JPEG of 64x64 grey pixels with arithmetic coding, which Pillow does not write."""


def photos() -> dict[str, bytes]:
    """Photos of `picture()`, by name. The first word of the name is the format."""
    image = picture()
    jpeg = encoded(image, "JPEG", quality=90)
    wide, profile = to_display_p3(image), display_p3()
    gain_map = image.convert("L").resize((160, 120))
    return {
        "JPEG progressive motion photo": encoded(image, "JPEG", quality=90, progressive=True) + video(),
        "JPEG motion photo of Samsung": jpeg + samsung_trailer({"MotionPhoto_Data": video()}),
        "JPEG panorama of Samsung without an end mark": jpeg.removesuffix(END) + samsung_trailer({"Panorama_Shot_Info": video()}),
        "MPO with a gain map": encoded(image, "MPO", save_all=True, append_images=[gain_map]),
        "HEIC of ten bits": ten_bits(image),
        "HEIC in tiles": heic(image, tile_size=128),
        "HEIC of Samsung": heic(image) + samsung_trailer({"MotionPhoto_Data": video()}),
        "JPEG in Display P3": encoded(wide, "JPEG", quality=95, icc_profile=profile),
        "PNG in Display P3": encoded(wide, "PNG", icc_profile=profile),
        "WEBP in Display P3": encoded(wide, "WEBP", quality=95, icc_profile=profile),
        "TIFF in Display P3": encoded(wide, "TIFF", icc_profile=profile),
        "HEIC in Display P3": heic(with_profile(wide, profile), quality=95),
        "AVIF in Display P3": encoded(wide, "AVIF", quality=95, speed=10, icc_profile=profile),
    }


def video() -> bytes:
    """What stands where a video would: bytes that look like markers of a JPEG, too."""
    noise = random.Random(1).randbytes(20_000)  # noqa: S311 - a video, no secret
    return b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\xff\xda".join(noise[at : at + 100] for at in range(0, len(noise), 100))


def samsung_trailer(blocks: dict[str, bytes]) -> bytes:
    """The trailer of these blocks, name -> content."""
    written = [b"\0\0\x01\x0a" + struct.pack("<I", len(name)) + name.encode() + content for name, content in blocks.items()]
    starts = np.cumsum([len(block) for block in reversed(written)])[::-1]
    entries = [b"\0\0\x01\x0a" + struct.pack("<II", start, len(block)) for start, block in zip(starts, written, strict=True)]
    directory = b"SEFH" + struct.pack("<II", 107, len(written)) + b"".join(entries)
    return b"".join(written) + directory + struct.pack("<I", len(directory)) + b"SEFT"


def ten_bits(image: Image.Image) -> bytes:
    """A HEIC of ten bits a channel."""
    deep = np.asarray(image).astype(np.uint16) * 257
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", image.size, deep.tobytes()).save(buffer)
    return buffer.getvalue()


def grid(tile: int, columns: int, rows: int, size: tuple[int, int], declared: tuple[int, int] | None = None) -> bytes:
    """A HEIC of one colour: square tiles of this side, which are all the same, around a photo of this size.

    Args:
        declared: another size, for its box ispe.
    """
    single = heic(Image.new("RGB", (tile, tile), (90, 120, 200)))
    stream, head = single[single.index(b"mdat") + 4 :], single[: single.index(b"meta") - 4]
    start = single.index(b"hvcC") - 4
    config = single[start : start + int.from_bytes(single[start : start + 4], "big")]
    tiles = range(2, columns * rows + 2)
    sizes = [box(b"ispe", 0, struct.pack(">II", *one)) for one in (declared or size, (tile, tile))]
    descriptor = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *size)
    kinds = [
        box(b"infe", 2 << 24, struct.pack(">HH4sx", number, 0, kind)) for number, kind in [(1, b"grid"), *((one, b"hvc1") for one in tiles)]
    ]
    places = [struct.pack(">HHHHII", 1, 1, 0, 1, 0, len(descriptor))]
    places += [struct.pack(">HHHHII", number, 0, 0, 1, len(head) + 8, len(stream)) for number in tiles]
    uses = [struct.pack(">HBB", 1, 1, 1), *(struct.pack(">HBBB", number, 2, 0x83, 2) for number in tiles)]
    count = len(tiles) + 1
    meta = [
        box(b"hdlr", 0, bytes(4) + b"pict" + bytes(13)),
        box(b"pitm", 0, struct.pack(">H", 1)),
        box(b"iloc", 1 << 24, struct.pack(">HH", 0x4400, count), *places),
        box(b"iinf", 0, struct.pack(">H", count), *kinds),
        box(b"iprp", None, box(b"ipco", None, *sizes, config), box(b"ipma", 0, struct.pack(">I", count), *uses)),
        box(b"iref", 0, box(b"dimg", None, struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *tiles))),
        box(b"idat", None, descriptor),
    ]
    return head + box(b"mdat", None, stream) + box(b"meta", 0, *meta)


def box(kind: bytes, version: int | None, *content: bytes) -> bytes:
    """A box of ISO/IEC 14496-12, with its version and flags if it has them."""
    body = (b"" if version is None else struct.pack(">I", version)) + b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def mislabelled(data: bytes, old: tuple[int, int], new: tuple[int, int]) -> bytes:
    """A HEIC or AVIF whose boxes declare another size than its stream."""
    assert struct.pack(">II", *old) in data
    return data.replace(struct.pack(">II", *old), struct.pack(">II", *new))


def with_profile(image: Image.Image, profile: bytes) -> Image.Image:
    image = image.copy()
    image.info["icc_profile"] = profile
    return image


def display_p3() -> bytes:
    """An ICC profile of Display P3: the primaries of SMPTE RP 431-2, relative to D50, with the curve of sRGB."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    curve = b"para\0\0\0\0\0\x03\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    red, green, blue = P3_TO_XYZ.T
    tags = {
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(*red),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(*green),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(*blue),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content
    kind = b"\x04\0\0\0mntrRGB XYZ " + bytes(12) + b"acsp"
    header = struct.pack(">I", 128 + len(table) + len(body)) + bytes(4) + kind + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + body


P3_TO_XYZ = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
SRGB_TO_XYZ = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])


def to_display_p3(image: Image.Image) -> Image.Image:
    """The same colours, written in Display P3."""
    values = np.asarray(image) / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = (linear @ (np.linalg.inv(P3_TO_XYZ) @ SRGB_TO_XYZ).T).clip(0, 1)
    values = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))
