"""What a photo looks like to the network, in three numbers: how bright it is, how sharp, and how warm its light.

Every registered model contains a copy of this module, so it imports only numpy. A training takes the signals of photos that an earlier one
has prepared in the same way from its baseline: if the numbers change, raise `RECIPE` in pipeline.py.
"""

from typing import NamedTuple

import numpy as np


class Signals(NamedTuple):
    """Of one decoded photo."""

    brightness: float
    """Mean luma (ITU-R BT.601), from 0 (black) to 1 (white)."""
    sharpness: float
    """Variance of the Laplacian of the luma, 0 without edges (Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, 2000)."""
    warmth: float
    """Mean red less mean blue, from -1 (blue light) to 1 (yellow light). Lamps and the white balance of a camera change it."""


def signals(pixels: np.ndarray) -> Signals:
    """The signals of a photo.

    Args:
        pixels: shape (height, width, 3), uint8; at least 3 pixels wide and high.
    """
    luma = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 255
    middle = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
    red, _, blue = pixels.mean(axis=(0, 1)) / 255
    return Signals(float(luma.mean()), float(laplacian.var()), float(red - blue))
