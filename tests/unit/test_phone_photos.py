"""Photos as phones write them: each is valid, or rejected with the true reason."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from car_damage.errors import UnusablePhoto
from car_damage.photo import decoder
from tests import corpus, phones
from tests.unit.test_images import MEASURE, reference

PHOTOS = phones.photos()


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_of_a_phone_is_decoded_to_the_picture_that_it_shows(name: str) -> None:
    photo = decoder.decode(PHOTOS[name])
    assert (photo.width, photo.height, photo.format) == (320, 240, name.split(maxsplit=1)[0])
    assert np.abs(photo.pixels.astype(int) - reference(corpus.picture())).mean() < 5


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_of_a_phone_cut_anywhere_in_its_picture_is_never_valid(name: str) -> None:
    data = PHOTOS[name]
    for cut in range(100, 3_000, 150):  # each picture is larger
        assert not decoder.inspect(data[:cut]).valid, cut


def test_a_panorama_whose_pixels_end_before_its_trailer_is_truncated() -> None:
    jpeg = corpus.encoded(corpus.picture(), "JPEG", quality=90)
    trailer = phones.samsung_trailer({"Panorama_Shot_Info": phones.video()})
    for lost in (3, 40, 1000, 5000):
        assert decoder.inspect(jpeg[:-lost] + trailer).reason == "truncated", lost
    assert decoder.inspect(jpeg[:-2]).reason == "truncated"


def test_hostile_trailers_are_no_trailers() -> None:
    jpeg = corpus.encoded(corpus.picture(), "JPEG")
    whole = decoder.decode(jpeg).pixels
    for tail in (b"SEFT", b"SEFH" + bytes(20) + struct.pack("<I", 24) + b"SEFT", b"SEFH" + b"\xff" * 40 + struct.pack("<I", 44) + b"SEFT"):
        assert np.array_equal(decoder.decode(jpeg + tail).pixels, whole)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "HEIC", "AVIF"])
def test_a_broken_or_huge_colour_profile_is_none(format_: str) -> None:
    image = corpus.picture()
    plain = decoder.decode(corpus.heic(image) if format_ == "HEIC" else corpus.encoded(image, format_)).pixels
    profile = phones.display_p3()
    for broken in (b"no profile", profile[:200], profile.replace(b"RGB ", b"CMYK"), profile + bytes(2 << 20)):
        data = corpus.heic(phones.with_profile(image, broken)) if format_ == "HEIC" else corpus.encoded(image, format_, icc_profile=broken)
        assert np.array_equal(decoder.decode(data).pixels, plain)


def test_a_profile_of_srgb_changes_no_pixel() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with_it = decoder.decode(corpus.encoded(corpus.picture(), "PNG", icc_profile=profile)).pixels
    assert np.array_equal(with_it, decoder.decode(corpus.encoded(corpus.picture(), "PNG")).pixels)


@pytest.mark.parametrize("format_", ["HEIC", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_turn_in_the_container_is_applied_once(format_: str, orientation: int) -> None:
    image = corpus.picture(2, 300, 200)
    exif = Image.Exif()
    exif[274] = orientation
    data = corpus.heic(image, exif.tobytes()) if format_ == "HEIC" else corpus.encoded(image, "AVIF", exif=exif, speed=10)
    photo, expected = decoder.decode(data), decoder.decode(corpus.with_orientation(image, orientation, "PNG"))
    assert (photo.width, photo.height) == (expected.width, expected.height)
    assert np.abs(photo.pixels.astype(int) - expected.pixels).mean() < 5


def test_a_jpeg_with_arithmetic_coding_is_read() -> None:
    photo = decoder.decode(phones.ARITHMETIC)
    assert (photo.width, photo.height, photo.format) == (64, 64, "JPEG")
    assert np.abs(photo.pixels[100, 80:150].astype(int) - 200).max() < 10  # a light bar
    assert photo.pixels[100, :40].max() < 10
    for cut in range(len(phones.ARITHMETIC) - 1):
        for data in (phones.ARITHMETIC[:cut], phones.ARITHMETIC[:cut].ljust(149, b"\0")):
            assert not decoder.inspect(data).valid, cut


def measured(folder: Path, *photos: bytes) -> tuple[list[str], int]:
    """The verdicts on these photos, and by how many kilobytes the process has grown, which has read a small one before."""
    for number, data in enumerate((corpus.heic(corpus.picture()), *photos)):
        (folder / str(number)).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *(str(folder / str(number)) for number in range(len(photos) + 1))],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *reasons, grown = done.stdout.splitlines()
    return reasons, int(grown)


@pytest.mark.slow
def test_48_megapixels_are_read_in_little_memory_and_108_are_rejected_by_their_header(tmp_path: Path) -> None:
    jpeg = corpus.encoded(Image.new("RGB", (8064, 6048), (90, 120, 200)), "JPEG")
    larger = jpeg.replace(struct.pack(">HH", 6048, 8064), struct.pack(">HH", 9000, 12000), 1)
    reasons, grown = measured(tmp_path, jpeg, larger)
    assert reasons == ["None", "too many pixels"]
    assert grown < 100_000


@pytest.mark.slow
def test_a_heic_of_48_megapixels_uses_eight_bytes_a_pixel_at_most(tmp_path: Path) -> None:
    reasons, grown = measured(tmp_path, phones.grid(512, 16, 12, (8064, 6048)))
    assert reasons == ["None"]
    assert grown < 8 * 8064 * 6048 / 1024


def test_a_photo_of_108_megapixels_says_so() -> None:
    jpeg = corpus.encoded(corpus.picture(), "JPEG").replace(struct.pack(">HH", 240, 320), struct.pack(">HH", 9000, 12000), 1)
    with pytest.raises(UnusablePhoto, match=r"^too many pixels: 12000x9000, the limit is 100000000 pixels$"):
        decoder.decode(jpeg)


def test_nothing_is_registered_in_pillow() -> None:
    decoder.decode(corpus.heic(corpus.picture()))
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(io.BytesIO(corpus.heic(corpus.picture())))
