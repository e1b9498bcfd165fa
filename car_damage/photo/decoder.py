"""The decoder and validator of photos: validation, training and serving all read a photo through `decode`.

So "valid" has one meaning everywhere: `decode` can read the photo. For any bytes, `decode` guarantees:

- An unusable photo raises UnusablePhoto with a reason from a closed list, `car_damage.photo.reasons`. It raises no other error.
- The size is checked in the header before pixels are decoded, for HEIC and AVIF also in the streams and for all tiles, and no
  metadata is decompressed but the first MiB of a colour profile, so a decompression bomb uses no memory.
- The result depends only on the bytes, the limits and the preparation: Pillow's process-wide switches have no effect and are never
  changed (see `car_damage.photo.containers`).
- It is safe to call from threads: photos larger than LARGE, and HEIC and AVIF, are decoded one at a time, so that memory does not
  grow with the number of threads.
- Colours are those of sRGB, by the ICC profile of the photo.

Every registered model contains a copy of this module, so it imports only Pillow, pi-heif, numpy and modules that are copied too.
"""

import hashlib
import math
import threading
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from car_damage.errors import UnusablePhoto
from car_damage.photo.colours import to_srgb
from car_damage.photo.containers import READERS, format_of, read_header
from car_damage.photo.formats.header import Header, unusable
from car_damage.photo.limits import SIZE, Limits
from car_damage.photo.preparation import Preparation
from car_damage.photo.reasons import CORRUPT, EMPTY, TOO_MANY_BYTES, TOO_MANY_PIXELS, TOO_SMALL

LARGE = 24_000_000
"""Pixels. Most cameras take smaller photos. A photo of this size uses 96 MB when decoded."""
_one_large = threading.Lock()

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Photo:
    """A decoded photo: the model's input."""

    pixels: Pixels
    """(224, 224, 3) uint8, RGB, upright."""
    width: int
    """Pixels of the original, after applying its EXIF orientation."""
    height: int
    format: str
    """JPEG, MPO, HEIC, AVIF, PNG, WEBP, BMP, GIF or TIFF."""


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting a file's bytes once."""

    valid: bool
    reason: str | None
    """One of `car_damage.photo.reasons.PHOTO_REASONS`; None for a valid photo."""
    detail: str
    """Details of the reason; empty for a valid photo."""
    format: str | None
    """As in `Photo`; None if the format is not supported."""
    width: int | None
    """Pixels, upright; None if the header could not be read."""
    height: int | None
    sha256: str | None
    """Of the file's bytes, in hexadecimal; None for a file that is too large to be read."""
    phash: int | None
    """See `perceptual_hash`; None for an unusable photo."""


def decode(data: bytes, limits: Limits = Limits(), preparation: Preparation = Preparation()) -> Photo:
    """Read a photo, for a model that has this preparation. Which photos are usable does not depend on it.

    Raises:
        UnusablePhoto: `reason: detail`, the reason one of `car_damage.photo.reasons.PHOTO_REASONS`.
    """
    _check_bytes(data, limits)
    try:
        header = read_header(data)
        _check_size(header, limits)
        with _one_large if header.alone or header.width * header.height > LARGE else nullcontext():
            size = preparation.size(header.width, header.height)
            image = header.reduced(math.prod(size)) if size and header.reduced else header.load()
            pixels = to_srgb(_rgb(image, size or (SIZE, SIZE)), header.profile)
        upright = _turn(pixels, header.orientation)
        square = preparation.square(upright) if size else upright
    except UnusablePhoto:
        raise
    except Exception as error:
        # On hostile bytes Pillow's decoders raise many kinds of errors: OSError, ValueError, SyntaxError, struct.error,
        # OverflowError, MemoryError, ... All of them concern only these bytes, and none may end a run.
        raise unusable(CORRUPT, f"{type(error).__name__}: {error}") from error
    return Photo(square, *header.upright, header.format)


def inspect(data: bytes, limits: Limits = Limits()) -> Inspection:
    """Validate a photo with `decode`, and hash it. Raises nothing."""
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        photo = decode(data, limits)
    except UnusablePhoto as error:
        reason, _, detail = str(error).partition(": ")
        return Inspection(False, reason, detail, *_describe(data), sha256, None)
    return Inspection(True, None, "", photo.format, photo.width, photo.height, sha256, perceptual_hash(photo.pixels))


def oversize(size: int, limits: Limits = Limits()) -> Inspection:
    """The inspection of a file that is too large to be read."""
    return Inspection(False, TOO_MANY_BYTES, _too_many_bytes(size, limits), None, None, None, None, None)


def fatal(data: bytes, why: str) -> Inspection:
    """The inspection of a file that ended the process that decoded it. The file is hashed, and never decoded again."""
    return Inspection(False, CORRUPT, why, None, None, None, hashlib.sha256(data).hexdigest(), None)


def perceptual_hash(pixels: Pixels) -> int:
    """A hash of 64 bits, of which few change when a photo is re-encoded, scaled or brightened.

    The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010): one bit for each of
    the 8x8 lowest frequencies of the luma at 32x32, set if the frequency is above their median.

    Args:
        pixels: (224, 224, 3) uint8, as returned by `decode`.

    Returns:
        A signed 64-bit integer, because Delta tables have no unsigned integers.
    """
    luma = np.asarray(Image.fromarray(pixels).convert("L").reduce(SIZE // 32), np.float64)
    # Rounded, so that floating-point noise does not set bits for a photo without structure.
    frequencies = np.round(_DCT @ luma @ _DCT.T, 3).ravel()
    bits = np.packbits(frequencies > np.median(frequencies))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


_DCT = np.cos(np.outer(np.arange(8), 2 * np.arange(32) + 1) * np.pi / 64)
"""(8, 32): the eight lowest frequencies of a DCT-II over 32 samples."""


def _check_bytes(data: bytes, limits: Limits) -> None:
    if not data:
        raise unusable(EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise unusable(TOO_MANY_BYTES, _too_many_bytes(len(data), limits))


def _too_many_bytes(size: int, limits: Limits) -> str:
    return f"{size} bytes, the limit is {limits.max_bytes}"


def _check_size(header: Header, limits: Limits) -> None:
    width, height = header.upright
    if width < 1 or height < 1:
        raise unusable(CORRUPT, f"{width}x{height} pixels")
    for wide, high in (header.upright, header.largest):
        if wide * high > limits.max_pixels:
            raise unusable(TOO_MANY_PIXELS, f"{wide}x{high}, the limit is {limits.max_pixels} pixels")
    if min(width, height) < limits.min_side:
        raise unusable(TOO_SMALL, f"{width}x{height}, each side must have at least {limits.min_side} pixels")


def _describe(data: bytes) -> tuple[str | None, int | None, int | None]:
    """Format, width and height of an unusable photo, as far as its bytes reveal them."""
    format_ = format_of(data)
    try:
        header = read_header(data)
    except Exception:  # noqa: BLE001 - as in `decode`, which has reported the error already
        return format_ if format_ in READERS else None, None, None
    return header.format, *header.upright


def _rgb(image: Image.Image, size: tuple[int, int]) -> Pixels:
    """Resize an image of any mode, and convert it to (height, width, 3) uint8."""
    if image.mode.startswith(("I", "F")):
        return _grey(image, size)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = _resize(image.convert("RGBA"), size)
        white = Image.new("RGBA", over.size, "white")
        white.alpha_composite(over)
        return np.array(white.convert("RGB"))
    if image.mode not in ("RGB", "L", "CMYK", "YCbCr"):
        image = image.convert("RGB")
    return np.array(_resize(image, size).convert("RGB"))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _grey(image: Image.Image, size: tuple[int, int]) -> Pixels:
    """Scale 16 bits by their full range. 32 bits and floats have no standard white: scale by the smallest common range that fits."""
    wide = image.mode.startswith("I;16")
    # float64, because differences of large float32 overflow.
    values = np.asarray(_resize((image.convert("I") if wide else image).convert("F"), size), np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise unusable(CORRUPT, "the pixels contain NaN or infinity")
    if wide or low < 0 or high > 65535:
        low, high = (0.0, 65535.0) if wide else (low, max(high, low + 1))
    else:
        low, high = 0.0, next(top for top in (1.0, 255.0, 65535.0) if high <= top)
    grey = np.rint((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Apply the EXIF orientation. Turning the small photo gives the same pixels as turning the original, for less work."""
    turned = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.transpose(1, 0, 2),
        6: lambda: np.rot90(pixels, -1),
        7: lambda: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: lambda: np.rot90(pixels, 1),
    }.get(orientation, lambda: pixels)()
    return np.ascontiguousarray(turned)
