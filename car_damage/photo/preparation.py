"""A model's own preparation of photos, which brings larger ones to the resolution and the compression of its training photos.

A network takes a sharper photo for another kind of photo, and one without the traces of compression, too. So a model can have a
preparation, which the decoder applies to every photo that its network sees, in training and in serving. The hash and the verdict of a
photo do not depend on it.

Every registered model contains a copy of this module.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from car_damage.photo.formats.pixels import run
from car_damage.photo.limits import SIZE

MOST = 4 * SIZE * SIZE
"""Pixels: twice the width and twice the height of the square. Between photos of more pixels the square shows no difference."""
_ABOUT = 1.1
"""A photo with up to so many times the pixels stays as it is, because reducing it by so little would only blur it."""
_LONGEST = 65_500
"""Pixels of a side of a JPEG, at most, by libjpeg's jmorecfg.h."""


@dataclass(frozen=True)
class Preparation:
    """What happens to a large photo, upright and in sRGB, before it becomes the square that the network sees. By default nothing.

    Raises:
        ValueError: pixels are not within 1 and MOST, or the quality is not within 1 and 100, or there are no pixels with it.
    """

    pixels: int | None = None
    """Width times height to which a photo of clearly more is reduced. Its aspect stays. None: no photo is."""
    quality: int | None = None
    """Quality, on libjpeg's scale from 1 to 100, of the JPEG to which a reduced photo is compressed. None: it is not. Other photos have
    the traces of their own compression; those of a large photo have vanished when it is reduced."""

    def __post_init__(self) -> None:
        for value, most in ((self.pixels, MOST), (self.quality, 100)):
            if value is not None and not 1 <= value <= most:
                raise ValueError(f"a preparation takes values from 1 to {most}, and not {value}")
        if self.quality and not self.pixels:
            raise ValueError("a preparation compresses only photos that it reduces: it takes a quality only with pixels")

    def size(self, width: int, height: int) -> tuple[int, int] | None:
        """The size to which a photo of this size is reduced; None for a photo that stays as it is."""
        if self.pixels is None or width * height <= _ABOUT * self.pixels:
            return None
        scale = math.sqrt(self.pixels / (width * height))
        wide, high = (min(max(1, round(side * scale)), _LONGEST) for side in (width, height))
        return wide, high

    def square(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Compress a reduced photo, (n, m, 3) uint8, RGB, upright, and make it the square, (224, 224, 3) uint8."""
        image = Image.fromarray(pixels)
        if self.quality is not None:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=self.quality)
            image = run("RGB", image.size, buffer.getvalue(), "jpeg", ("RGB", "", 1, 0))
        return np.array(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
