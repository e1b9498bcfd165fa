"""Thumbnails: made of every photo that can be drawn, and of nothing else. They never raise an error."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from car_damage.photo.limits import Limits
from car_damage.photo.thumbnails import LONGEST, SIDE, picture, thumbnail
from tests import corpus

MAX_BYTES = 12_000
MOST_DIFFERENCE = 6.0
"""Of 255, in the mean: what two lossy formats take from the details."""
PHOTOS = corpus.photos()
BROKEN = corpus.broken()
DRAWN_IN_PART = {name for name in BROKEN if name.startswith(("cut JPEG", "cut MPO"))} | {"jpeg with a tail of zeros"}
SMALL = {"small jpeg", "small gif"}


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image.convert("RGB")


@pytest.mark.parametrize("name", PHOTOS)
def test_a_valid_photo_of_every_format_is_drawn_in_its_own_proportions(name: str) -> None:
    assert opened(thumbnail(PHOTOS[name])).size == (SIDE, 72)


@pytest.mark.parametrize("name", ["HEIC", "AVIF", "TIFF", "TIFF lzw", "BMP", "JPEG"])
def test_a_picture_has_the_shape_and_the_details_of_the_photo(name: str) -> None:
    difference = np.asarray(opened(picture(PHOTOS[name])), float) - np.asarray(corpus.picture(), float)
    assert np.abs(difference).mean() < MOST_DIFFERENCE


def test_a_picture_is_upright_and_not_larger_than_a_screen() -> None:
    photo = corpus.with_orientation(corpus.picture(0, 3000, 1500), 6, "TIFF")
    assert opened(picture(photo)).size == (LONGEST // 2, LONGEST)


@pytest.mark.parametrize("name", ["nothing", "text", "cut HEIC", "heic bomb"])
def test_what_cannot_be_decoded_has_no_picture(name: str) -> None:
    assert picture(BROKEN[name][0]) is None


@pytest.mark.parametrize("name", BROKEN)
def test_of_what_is_broken_only_cut_jpegs_and_small_photos_are_drawn(name: str) -> None:
    drawn = thumbnail(BROKEN[name][0])
    assert (drawn is not None) == (name in DRAWN_IN_PART | SMALL)


def test_a_cut_jpeg_shows_the_part_that_is_there_and_grey_below() -> None:
    whole = np.asarray(opened(thumbnail(PHOTOS["JPEG"])), float)
    for name in ("cut JPEG", "jpeg with a tail of zeros"):
        cut = np.asarray(opened(thumbnail(BROKEN[name][0])), float)
        assert np.abs(cut[:8] - whole[:8]).mean() < 8
        assert np.ptp(cut[-4:].mean(axis=(0, 1))) < 8


def test_a_small_photo_keeps_its_size_and_a_turned_one_is_upright() -> None:
    assert opened(thumbnail(BROKEN["small jpeg"][0])).size == (13, SIDE)
    assert opened(thumbnail(corpus.encoded(corpus.picture(0, 40, 30), "PNG"))).size == (40, 30)
    assert opened(thumbnail(corpus.with_orientation(corpus.picture(), 6, "JPEG"))).size == (72, SIDE)


def test_what_is_above_the_limits_is_not_drawn() -> None:
    photo = PHOTOS["JPEG"]
    assert thumbnail(photo, Limits(max_pixels=320 * 240 - 1)) is None
    assert thumbnail(photo, Limits(max_bytes=len(photo) - 1)) is None
    assert thumbnail(BROKEN["cut JPEG"][0], Limits(max_pixels=320 * 240 - 1)) is None
    assert thumbnail(corpus.encoded(Image.new("1", (8_000, 8_000)), "PNG")) is None


def test_the_loudest_photo_is_a_small_picture() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    assert len(thumbnail(corpus.encoded(noise, "PNG")) or b"") in range(1, MAX_BYTES)


def test_hostile_bytes_are_drawn_or_not_in_little_time_and_space_and_raise_nothing() -> None:
    started = time.monotonic()
    drawn = [thumbnail(data) for _, data in corpus.fuzzed(600, seed=23)]
    assert time.monotonic() - started < 60  # sixty times the usual duration
    assert any(drawn)
    assert None in drawn
    assert max(len(picture or b"") for picture in drawn) < MAX_BYTES
