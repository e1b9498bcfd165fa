"""A model's own preparation of photos, which brings them to the resolution and the compression of those that it was trained with.

A network takes a sharper or less compressed photo for another kind of photo. So a model can have a preparation, which the decoder
applies to every photo that its network sees, in training and in serving. The hash and the verdict of a photo do not depend on it.

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
_LONGEST = 65_500
"""Pixels of a side of a JPEG, at most, by libjpeg's jmorecfg.h."""


@dataclass(frozen=True)
class Preparation:
    """What happens to a photo, upright and in sRGB, before it becomes the square that the network sees. By default nothing.

    Raises:
        ValueError: pixels are not within 1 and MOST, or the quality is not within 1 and 100.
    """

    pixels: int | None = None
    """Width times height to which a larger photo is reduced. Its aspect stays. None: as the photo is, or MOST with a quality."""
    quality: int | None = None
    """Quality, on libjpeg's scale from 1 to 100, of the JPEG that the photo is compressed to at that size. None: not compressed."""

    def __post_init__(self) -> None:
        for value, most in ((self.pixels, MOST), (self.quality, 100)):
            if value is not None and not 1 <= value <= most:
                raise ValueError(f"a preparation takes values from 1 to {most}, and not {value}")

    @property
    def area(self) -> int:
        """Pixels that it needs of a photo that has as many; 0 if nothing happens."""
        return self.pixels or (MOST if self.quality else 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size at which `square` takes a photo of this size. That of the square if nothing happens."""
        if not self.area:
            return SIZE, SIZE
        scale = min(1.0, math.sqrt(self.area / (width * height)))
        wide, high = (min(max(1, round(side * scale)), _LONGEST) for side in (width, height))
        return wide, high

    def square(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Compress an upright photo of this `size`, (n, m, 3) uint8, RGB, and make it the square, (224, 224, 3) uint8."""
        if not self.area:
            return pixels
        image = Image.fromarray(pixels)
        if self.quality is not None:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=self.quality)
            image = run("RGB", image.size, buffer.getvalue(), "jpeg", ("RGB", "", 1, 0))
        return np.array(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
