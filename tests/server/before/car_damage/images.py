"""The one decoder and validator of photos: validation, training and serving all read a photo through `decode`.

So "valid" means one thing everywhere: this very function can read it. It promises, for any bytes at all:

- Every way to be unusable has a name from a closed list, `car_damage.reasons`. Nothing else is ever raised.
- Size is judged from the header before a pixel is decoded, and metadata is never unpacked: a decompression
  bomb costs no memory.
- The answer depends on the bytes and the limits alone: Pillow's process-wide switches change nothing and are never
  touched (see `car_damage.containers`).
- Threads may call it at will: of photos larger than LARGE they decode one at a time, so that memory does not grow
  with their number.

A copy of this module travels inside every registered model, so it imports Pillow, numpy and what travels with it.
"""

import hashlib
import threading
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from car_damage.containers import READERS, Header, format_of, read_header, unusable
from car_damage.containers import SIZE as SIZE  # noqa: PLC0414 - part of what this module offers
from car_damage.errors import UnusablePhoto
from car_damage.reasons import CORRUPT, EMPTY, TOO_MANY_BYTES, TOO_MANY_PIXELS, TOO_SMALL

LARGE = 24_000_000
"""Pixels. What most cameras give at most, and 96 MB once decoded."""
_one_large = threading.Lock()

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Limits:
    """What is taken for a photo."""

    min_side: int = 48
    """Pixels of the shorter side."""
    max_pixels: int = 100_000_000
    """Width times height."""
    max_bytes: int = 64 << 20
    """Bytes of the file."""


@dataclass(frozen=True)
class Photo:
    """A photo as the model sees it."""

    pixels: Pixels
    """(224, 224, 3) uint8, RGB, upright."""
    width: int
    """Pixels of the original, upright: after its EXIF orientation."""
    height: int
    format: str
    """JPEG, MPO, PNG, WEBP, BMP, GIF or TIFF."""


@dataclass(frozen=True)
class Inspection:
    """All that one look at a file's bytes tells."""

    valid: bool
    reason: str | None
    """One of `car_damage.reasons.PHOTO_REASONS`; None for a valid photo."""
    detail: str
    """What exactly is wrong; empty for a valid photo."""
    format: str | None
    """As in `Photo`; None where the bytes are of no supported format."""
    width: int | None
    """Pixels, upright; None where no header could be read."""
    height: int | None
    sha256: str | None
    """Of the file's bytes, in hexadecimal; None for a file too large to be read."""
    phash: int | None
    """See `perceptual_hash`; None for a photo that is not valid."""


def decode(data: bytes, limits: Limits = Limits()) -> Photo:
    """Read a photo.

    Raises:
        UnusablePhoto: `reason: detail`, the reason one of `car_damage.reasons.PHOTO_REASONS`.
    """
    _check_bytes(data, limits)
    try:
        header = read_header(data)
        _check_size(header, limits)
        with _one_large if header.width * header.height > LARGE else nullcontext():
            square = _square(header.load())
    except UnusablePhoto:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever hostile bytes provoke: OSError, ValueError, SyntaxError, struct.error,
        # OverflowError, MemoryError, ... None of them is about anything but these bytes, and none may end a run.
        raise unusable(CORRUPT, f"{type(error).__name__}: {error}") from error
    return Photo(_turn(square, header.orientation), *header.upright, header.format)


def inspect(data: bytes, limits: Limits = Limits()) -> Inspection:
    """Judge a photo by `decode`, and hash it. Raises nothing, whatever the bytes are."""
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        photo = decode(data, limits)
    except UnusablePhoto as error:
        reason, _, detail = str(error).partition(": ")
        return Inspection(False, reason, detail, *_describe(data), sha256, None)
    return Inspection(True, None, "", photo.format, photo.width, photo.height, sha256, perceptual_hash(photo.pixels))


def oversize(size: int, limits: Limits = Limits()) -> Inspection:
    """The inspection of a file of so many bytes that it is not read at all."""
    return Inspection(False, TOO_MANY_BYTES, _too_many_bytes(size, limits), None, None, None, None, None)


def fatal(data: bytes, why: str) -> Inspection:
    """The inspection of a file that ended the process that looked at it: only hashed, never decoded again."""
    return Inspection(False, CORRUPT, why, None, None, None, hashlib.sha256(data).hexdigest(), None)


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits that change little when a photo is re-encoded, scaled or brightened.

    The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010): the 8x8
    lowest frequencies of the luma at 32x32, each one bit: above their median or not.

    Args:
        pixels: (224, 224, 3) uint8, as `decode` gives it.

    Returns:
        A signed 64-bit integer, because Delta tables know no unsigned one.
    """
    luma = np.asarray(Image.fromarray(pixels).convert("L").reduce(SIZE // 32), np.float64)
    # Rounded, so that the noise of floating point does not decide the bits of a photo without any structure.
    frequencies = np.round(_DCT @ luma @ _DCT.T, 3).ravel()
    bits = np.packbits(frequencies > np.median(frequencies))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def brightness(pixels: Pixels) -> float:
    """Mean luma of (n, m, 3) uint8 pixels, from 0 (black) to 1 (white)."""
    return float(_luma(pixels).mean()) / 255


def _luma(pixels: Pixels) -> npt.NDArray[np.float32]:
    """(n, m) float32, 0 to 255, by ITU-R BT.601."""
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


_DCT = np.cos(np.outer(np.arange(8), 2 * np.arange(32) + 1) * np.pi / 64)
"""(8, 32): the eight lowest frequencies of a DCT-II over 32 samples."""


def _check_bytes(data: bytes, limits: Limits) -> None:
    if not data:
        raise unusable(EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise unusable(TOO_MANY_BYTES, _too_many_bytes(len(data), limits))


def _too_many_bytes(size: int, limits: Limits) -> str:
    return f"{size} bytes, at most {limits.max_bytes} are read"


def _check_size(header: Header, limits: Limits) -> None:
    width, height = header.upright
    if width < 1 or height < 1:
        raise unusable(CORRUPT, f"{width}x{height} pixels")
    if width * height > limits.max_pixels:
        raise unusable(TOO_MANY_PIXELS, f"{width}x{height}, at most {limits.max_pixels} pixels are decoded")
    if min(width, height) < limits.min_side:
        raise unusable(TOO_SMALL, f"{width}x{height}, each side must have {limits.min_side} pixels")


def _describe(data: bytes) -> tuple[str | None, int | None, int | None]:
    """Format, width and height as far as a photo that is not usable tells them."""
    format_ = format_of(data)
    try:
        header = read_header(data)
    except Exception:  # noqa: BLE001 - as in `decode`; what is wrong with the bytes has been said there
        return format_ if format_ in READERS else None, None, None
    return header.format, *header.upright


def _square(image: Image.Image) -> Pixels:
    """Any mode to (224, 224, 3) uint8."""
    if image.mode.startswith(("I", "F")):
        return _grey(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = _resize(image.convert("RGBA"))
        white = Image.new("RGBA", over.size, "white")
        white.alpha_composite(over)
        return np.array(white.convert("RGB"))
    if image.mode not in ("RGB", "L", "CMYK", "YCbCr"):
        image = image.convert("RGB")
    return np.array(_resize(image).convert("RGB"))


def _resize(image: Image.Image) -> Image.Image:
    return image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _grey(image: Image.Image) -> Pixels:
    """16 bits by their range; 32 bits and floats, which have no agreed white, by the smallest usual range that holds them."""
    wide = image.mode.startswith("I;16")
    # float64, because differences of large float32 overflow.
    values = np.asarray(_resize((image.convert("I") if wide else image).convert("F")), np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise unusable(CORRUPT, "pixels that are not numbers")
    if wide or low < 0 or high > 65535:
        low, high = (0.0, 65535.0) if wide else (low, max(high, low + 1))
    else:
        low, high = 0.0, next(top for top in (1.0, 255.0, 65535.0) if high <= top)
    grey = np.rint((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    """Upright. The square is turned, not the photo: the same pixels for less work."""
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
