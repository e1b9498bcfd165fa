"""Which files are taken for a photo, and the size that the model sees it in."""

from dataclasses import dataclass

SIZE = 224
"""Pixels: width and height of what the model sees. A JPEG need not be decoded at more than a little above it."""


@dataclass(frozen=True)
class Limits:
    """What is taken for a photo."""

    min_side: int = 48
    """Pixels of the shorter side."""
    max_pixels: int = 100_000_000
    """Width times height."""
    max_bytes: int = 64 << 20
    """Bytes of the file."""
