"""The decoder and validator: every format, every reason, and no way around it."""

import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile

from car_damage import images
from car_damage.errors import UnusablePhoto
from tests import corpus

PHOTOS = corpus.photos()
BROKEN = corpus.broken()


def reference(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_of_every_format_is_decoded_to_the_picture_that_was_encoded(name: str) -> None:
    photo = images.decode(PHOTOS[name])
    image = corpus.picture()
    if "alpha" in name:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), image.convert("L"))
    if "grey" in name or "bit" in name or "float" in name:
        image = image.convert("L")
    assert photo.pixels.shape == (224, 224, 3)
    assert photo.pixels.dtype == np.uint8
    assert (photo.width, photo.height, photo.format) == (320, 240, name.split()[0])
    allowed = {"bit": 45, "palette": 12}.get(name.split()[-1], 8)  # dithering and few colours cost precision
    assert np.abs(photo.pixels.astype(int) - reference(image)).mean() < allowed


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_photo_is_rejected_for_its_own_reason(name: str) -> None:
    data, reason = BROKEN[name]
    with pytest.raises(UnusablePhoto) as caught:
        images.decode(data)
    assert caught.value.reason == reason
    assert reason in images.PHOTO_REASONS


def test_an_inspection_tells_what_is_known_of_a_rejected_photo() -> None:
    bomb = images.inspect(corpus.bomb(60_000, 50_000))
    assert (bomb.valid, bomb.reason, bomb.format, bomb.width, bomb.height) == (False, "too many pixels", "PNG", 60_000, 50_000)
    assert bomb.phash is None
    assert "60000x50000" in bomb.detail
