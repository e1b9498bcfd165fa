"""A model's own preparation: what it does to photos, and what it leaves alone."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from car_damage.errors import UnusablePhoto
from car_damage.photo.decoder import decode
from car_damage.photo.limits import Limits
from car_damage.photo.preparation import MOST, Preparation
from tests import corpus

PHOTOS = corpus.photos()
THUMBNAILS = Preparation(pixels=259 * 194, quality=75)


def prepared(data: bytes, preparation: Preparation = THUMBNAILS) -> np.ndarray:
    return decode(data, Limits(), preparation).pixels.astype(int)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean())


def reduced(size: tuple[int, int], preparation: Preparation = THUMBNAILS) -> tuple[int, int]:
    found = preparation.size(*size)
    assert found is not None
    return found


@pytest.mark.parametrize("size", [(1000, 667), (667, 1000), (6000, 1000), (320, 240)])
def test_a_larger_photo_gets_the_area_and_keeps_its_aspect(size: tuple[int, int]) -> None:
    wide, high = reduced(size)
    assert wide * high == pytest.approx(259 * 194, rel=0.02)
    assert wide / high == pytest.approx(size[0] / size[1], rel=0.02)


def test_no_side_of_a_reduced_photo_is_too_long_for_a_jpeg() -> None:
    assert reduced((2_000_000, 48), Preparation(MOST, 80)) == (65_500, 2)
    assert Preparation(MOST, 80).square(np.full((2, 65_500, 3), 90, np.uint8)).shape == (224, 224, 3)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_of_about_as_many_pixels_as_the_preparation_stays_as_it_is_byte_for_byte(name: str) -> None:
    plain = decode(PHOTOS[name]).pixels
    for preparation in (Preparation(), Preparation(MOST, 20), Preparation(320 * 240 - 5_000, 20)):
        assert np.array_equal(prepared(PHOTOS[name], preparation), plain)
    assert not np.array_equal(prepared(PHOTOS[name], Preparation(320 * 240 - 10_000, 20)), plain)


@pytest.mark.parametrize("quality", [20, 90])
def test_a_reduced_photo_is_compressed_to_a_jpeg_of_this_quality(quality: int) -> None:
    small = corpus.picture(0, 640, 480).resize((320, 240), Image.Resampling.BILINEAR, reducing_gap=2.0)
    as_jpeg = decode(corpus.encoded(small, "JPEG", quality=quality)).pixels
    png = corpus.encoded(corpus.picture(0, 640, 480), "PNG")
    assert np.array_equal(prepared(png, Preparation(320 * 240, quality)), as_jpeg)
    assert np.array_equal(prepared(png, Preparation(320 * 240)), decode(corpus.encoded(small, "PNG")).pixels)


def detailed(width: int, height: int) -> Image.Image:
    """A picture with detail down to its pixels, as a sharp photo has."""
    pixels = np.asarray(corpus.picture(7, width, height)).astype(int)
    noise = np.random.default_rng(7).normal(0, 40, (height, width, 1))
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


def test_a_large_and_a_small_version_of_a_photo_come_closer() -> None:
    large = detailed(1200, 900)
    files = corpus.encoded(large, "JPEG", quality=95), corpus.encoded(large.resize((259, 194)), "JPEG", quality=75)
    without = apart(*(decode(data).pixels.astype(int) for data in files))
    assert apart(*map(prepared, files)) < 0.6 * without


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_upright_before_it_is_compressed(orientation: int) -> None:
    image = detailed(404, 300)  # reduced to no multiples of the blocks of a JPEG
    data = corpus.with_orientation(image, orientation, "PNG")
    image.getexif()[274] = orientation
    upright = corpus.encoded(ImageOps.exif_transpose(image), "PNG")
    strong = Preparation(pixels=259 * 194, quality=10)
    assert apart(prepared(data, strong), prepared(upright, strong)) < 1


def verdict(data: bytes, preparation: Preparation) -> str:
    try:
        decode(data, Limits(), preparation)
    except UnusablePhoto as error:
        return str(error)
    return ""


def test_a_preparation_refuses_nothing_that_is_usable_without_it_and_accepts_nothing_else() -> None:
    files = [*PHOTOS.values(), *(data for data, _ in corpus.broken().values()), *(data for _, data in corpus.fuzzed(60, 5))]
    files.append(corpus.encoded(Image.new("1", (200_000, 48)), "PNG"))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda data: verdict(data, THUMBNAILS), files)) == [verdict(data, Preparation()) for data in files]


@pytest.mark.parametrize(("owner", "switch", "value"), [(Image, "MAX_IMAGE_PIXELS", 10), (ImageFile, "MAXBLOCK", 16)])
def test_pillow_s_process_wide_switches_change_no_prepared_photo(
    monkeypatch: pytest.MonkeyPatch, owner: object, switch: str, value: int
) -> None:
    before = prepared(PHOTOS["PNG"])
    monkeypatch.setattr(owner, switch, value)
    assert np.array_equal(prepared(PHOTOS["PNG"]), before)


@pytest.mark.parametrize("values", [(0, None), (MOST + 1, None), (1, 0), (1, 101), (None, 75)])
def test_a_preparation_that_cannot_be_is_refused(values: tuple[int | None, int | None]) -> None:
    with pytest.raises(ValueError, match=r"a preparation (takes values from 1 to|compresses only)"):
        Preparation(*values)


MEASURE = """
import sys
from pathlib import Path
from car_damage.photo.decoder import decode
from car_damage.photo.limits import Limits
from car_damage.photo.preparation import MOST, Preparation
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
small, large = (Path(path).read_bytes() for path in sys.argv[1:])
for preparation in (Preparation(), Preparation(50_000, 75)):
    decode(small, Limits(), preparation)
before = peak()
for preparation in (Preparation(50_000, 75), Preparation(MOST, 75)):
    decode(large, Limits(), preparation)
print(peak() - before)
"""


def test_a_jpeg_of_24_megapixels_is_prepared_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(PHOTOS["JPEG"])
    (tmp_path / "large").write_bytes(corpus.encoded(Image.new("RGB", (6000, 4000), (90, 120, 200)), "JPEG"))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 20_000  # kilobytes; all its pixels are 72,000
