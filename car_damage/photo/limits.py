"""The limits of a usable photo, and the size of the model's input."""

from dataclasses import dataclass

SIZE = 224
"""Pixels: width and height of the model's input. A JPEG is decoded at the smallest scale that is not below it."""


@dataclass(frozen=True)
class Limits:
    """The limits of a usable photo. Files outside of them are rejected."""

    min_side: int = 48
    """Pixels of the shorter side, at least."""
    max_pixels: int = 100_000_000
    """Width times height, at most."""
    max_bytes: int = 64 << 20
    """Size of the file, at most."""
