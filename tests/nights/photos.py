"""Photos of cars that never were: small JPEG files, drawn by number, and the ways in which people change them."""

import hashlib
import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

CLASSES = ("minor", "moderate", "major")
_COMMENT = b"\xff\xfe"
"""The marker of a JPEG's comment, whose length is up to 65,533 bytes."""


@dataclass(frozen=True)
class Photo:
    """The bytes of a file, and what a person sees on it."""

    data: bytes
    subject: str
    """The car. All encodings of a photo, and all photos of one walk around a car, show the same. Empty: the file is no photo."""
    label: str
    """The true class of the damage."""
    side: int = 0
    """Pixels of the shorter side."""
    modified: int = 0
    """Seconds since 1970."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def draw(number: int, label: str, side: int = 64, quality: int = 90) -> Photo:
    """The photo with this number: soft colours that no other number has."""
    return Photo(_encoded(_clouds(number), side, quality, f"camera {number}"), f"car {number}", label, side)


def walk(number: int, label: str, frames: int = 14) -> list[Photo]:
    """Photos of one walk around a car: each resembles the next, the last does not resemble the first."""
    first, last = _clouds(2 * number + 1_000_000), _clouds(2 * number + 1_000_001)
    mixed = (first * (1 - share) + last * share for share in np.linspace(0, 1, frames))
    return [Photo(_encoded(one, 64, 90, ""), f"walk {number}", label, 64) for one in mixed]


def saved_again(photo: Photo, quality: int) -> Photo:
    """The same picture, compressed again and without its EXIF block."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(photo.data)) as image:
        image.save(out, "JPEG", quality=quality)
    return replace(photo, data=out.getvalue())


def of_size(photo: Photo, size: int) -> Photo | None:
    """The same picture in exactly `size` bytes; None where it needs more."""
    for quality in (90, 70, 50, 30, 10):
        data = saved_again(photo, quality).data
        missing = size - len(data)
        if missing >= 4:
            comment = _COMMENT + (missing - 2).to_bytes(2, "big") + bytes(missing - 4)
            return replace(photo, data=data[:2] + comment + data[2:])
    return None


def broken(number: int) -> Photo:
    """A file that is no photo, or only the first half of one."""
    whole = draw(number, CLASSES[0]).data
    return Photo(whole[: len(whole) // 2] if number % 2 else b"not a photo %d" % number, "", "")


def _clouds(number: int) -> np.ndarray:
    """(9, 12, 3) float, of 0 to 255."""
    return np.random.default_rng(number).integers(0, 256, (9, 12, 3)).astype(float)


def _encoded(clouds: np.ndarray, side: int, quality: int, camera: str) -> bytes:
    image = Image.fromarray(clouds.astype(np.uint8)).resize((side * 4 // 3, side), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if camera:
        exif[271] = camera
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, exif=exif)
    return out.getvalue()
