"""Draws damaged cars, so that the service can be tried without real photos.

The same seed gives the same bytes. A small network learns the severity from about forty photos: a whole car with a few
scratches or a small dent (minor); one crumpled side of bare metal and a broken lamp (moderate); one collapsed end, every
window white with cracks, a wheel off, debris and fluid on the road (major). The car's kind, colour and direction, the place,
light, background, noise and size vary independently of the severity.
"""

import io
import random
import zlib
from pathlib import Path

from PIL import Image

from deployments.demo_scene import Scene

CLASSES = ("minor", "moderate", "major")

_NEAR_DUPLICATE_FROM = 8


def photo(label: str, seed: int) -> bytes:
    """One JPEG, 320x240 to 640x480 pixels.

    Args:
        label: minor, moderate or major.
        seed: each seed gives another car in another place.
    """
    random_ = random.Random(f"{label} {seed}")  # noqa: S311 - drawings, not secrets
    return _jpeg(Scene(random_).draw(label), random_.randint(82, 93))


def write(folder: Path, seed: int = 0, valid: int = 56, unusable: bool = True) -> None:
    """Fill a folder with photos in minor/, moderate/ and major/.

    Files that already have the same content are not written, so they keep their modification time.

    Args:
        folder: created if it does not exist.
        seed: seed of all photos.
        valid: number of photos that training can use, spread evenly over the classes. In a class with more than eight, the
            last is a near-duplicate of the first: usable, but in the same split.
        unusable: add at least one file for each reason why validation rejects or ignores a file.
    """
    share, rest = divmod(valid, len(CLASSES))
    for place, label in enumerate(CLASSES):
        count = share + (place < rest)
        for number in range(1, count + 1):
            drawn = photo(label, 1000 * seed + number)
            if number == count > _NEAR_DUPLICATE_FROM:
                drawn = _smaller(photo(label, 1000 * seed + 1))
            _write(folder / label / f"{label}_{number:03}.jpg", drawn)
    if unusable:
        for path, data in _unusable(seed).items():
            _write(folder / path, data)


def _smaller(data: bytes) -> bytes:
    """The same photo as a messenger would send it: other bytes, nearly the same perceptual hash."""
    image = Image.open(io.BytesIO(data))
    return _jpeg(image.resize((image.width * 3 // 4, image.height * 3 // 4), Image.Resampling.BILINEAR), 80)


def _write(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _unusable(seed: int) -> dict[str, bytes]:
    """Path -> bytes of files that cannot be used, each for one reason."""
    unlabelled, unknown, twin, cut = (photo("moderate", 1000 * seed + 900 + number) for number in range(4))
    whole = Image.open(io.BytesIO(photo("major", 1000 * seed + 901)))
    png = io.BytesIO()
    whole.save(png, "PNG")
    corrupt = bytearray(png.getvalue())
    corrupt[len(corrupt) // 2] ^= 0xFF
    pixmap = io.BytesIO()
    whole.resize((160, 120)).save(pixmap, "PPM")
    bomb = bytearray(png.getvalue()[:2000])
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    return {
        "minor/empty.jpg": b"",
        "minor/notes.jpg": b"The owner sends the photos on Monday.\n" * 20,
        "moderate/scan.ppm": pixmap.getvalue(),
        "moderate/half_sent.jpg": cut[: len(cut) // 2],
        "major/bad_disk.png": bytes(corrupt),
        "minor/thumbnail.jpg": _jpeg(whole.resize((40, 30)), 85),
        "major/bomb.png": bytes(bomb),
        "unsorted_001.jpg": unlabelled,
        "other/other_001.jpg": unknown,
        "major/major_again.jpg": photo("major", 1000 * seed + 1),
        "minor/minor_twin.jpg": twin,
        "major/major_twin.jpg": twin,
        "minor/._minor_001.jpg": b"what a file manager leaves behind",
        "_tmp/upload.jpg": cut[:1000],
    }


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
