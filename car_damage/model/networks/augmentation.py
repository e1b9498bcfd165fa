"""Training photos as other cameras, web pages and standpoints would have shown them: the augmentation `wide`.

Each photo is cropped, mirrored, lit, blurred or sharpened, and compressed again, all at random. None of this changes how severe the damage
is. It works on decoded photos, so one function serves the network cnn and fine-tuning.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from car_damage.photo.limits import SIZE

Pixels = npt.NDArray[np.uint8]

LEAST_SIDE = 0.75
"""Share of each side that a crop keeps, at least. Width and height differ, so the aspect changes, too."""
LIGHT = 0.25
"""Brightness and contrast change by up to this factor."""
SHARPNESS = (0.0, 2.0)
"""Factors of Pillow's ImageEnhance: 0 is blurred by 3 x 3 pixels, 1 the photo as it is, 2 sharpened as much."""
QUALITIES = (40, 95)
"""Of libjpeg's scale from 1 to 100."""


def wide(photos: Pixels, random: np.random.Generator) -> Pixels:
    """(n, 224, 224, 3) uint8 -> the same, each photo changed. The same photos and state of the generator give the same changes."""
    return np.stack([_varied(photo, random) for photo in photos]) if len(photos) else photos


def _varied(photo: Pixels, random: np.random.Generator) -> Pixels:
    image = _cropped(Image.fromarray(photo if random.random() < 0.5 else photo[:, ::-1]), random)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = enhance(image).enhance(random.uniform(1 - LIGHT, 1 + LIGHT))
    image = ImageEnhance.Sharpness(image).enhance(random.uniform(*SHARPNESS))
    return _compressed(image, int(random.integers(QUALITIES[0], QUALITIES[1] + 1)))


def _cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A part of the photo, scaled to the whole square."""
    width, height = random.uniform(LEAST_SIDE, 1.0, 2) * SIZE
    left, top = random.uniform(0.0, SIZE - width), random.uniform(0.0, SIZE - height)
    return image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))


def _compressed(image: Image.Image, quality: int) -> Pixels:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
