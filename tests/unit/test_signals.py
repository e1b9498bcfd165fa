"""Brightness, sharpness and warmth of a photo."""

import numpy as np
import pytest
from PIL import ImageFilter

from car_damage.photo.signals import signals
from tests import corpus


def test_black_white_and_a_checkerboard() -> None:
    board = np.indices((8, 8)).sum(0) % 2 * 255
    assert signals(np.zeros((8, 8, 3), np.uint8)) == (0, 0, 0)
    assert signals(np.full((8, 8, 3), 255, np.uint8)) == pytest.approx((1, 0, 0), abs=1e-6)
    assert signals(np.repeat(board[..., None], 3, 2).astype(np.uint8)) == pytest.approx((0.5, 16, 0), abs=1e-4)


def test_a_darker_photo_is_less_bright_and_a_blurred_one_less_sharp() -> None:
    photo = corpus.picture(0, 224, 224)
    before = signals(np.asarray(photo))
    assert signals(np.asarray(photo) // 3).brightness < before.brightness / 2
    assert signals(np.asarray(photo.filter(ImageFilter.GaussianBlur(2)))).sharpness < before.sharpness / 2


def test_yellow_light_is_warm_and_blue_light_cold() -> None:
    photo = np.asarray(corpus.picture(0, 224, 224)).astype(np.float64)
    yellow, blue = (np.clip(photo * cast, 0, 255).astype(np.uint8) for cast in ((1, 1, 0.5), (0.5, 1, 1)))
    assert signals(blue).warmth < signals(photo.astype(np.uint8)).warmth < signals(yellow).warmth
    assert signals(np.array([255, 0, 0], np.uint8) * np.ones((3, 3, 1), np.uint8)).warmth == 1
