"""The decoder and validator: every format, every reason, and no way to bypass the checks."""

import hashlib
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pi_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Image, ImageFile, ImageOps, TiffImagePlugin

from car_damage.errors import UnusablePhoto
from car_damage.photo import decoder, reasons
from car_damage.photo.limits import Limits
from tests import corpus, phones

PHOTOS = corpus.photos()
BROKEN = corpus.broken()


def reference(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)).astype(int)


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_of_every_format_is_decoded_to_the_picture_that_was_encoded(name: str) -> None:
    photo = decoder.decode(PHOTOS[name])
    image = corpus.picture()
    if "alpha" in name:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), image.convert("L"))
    if "grey" in name or "bit" in name or "float" in name:
        image = image.convert("L")
    assert photo.pixels.shape == (224, 224, 3)
    assert photo.pixels.dtype == np.uint8
    assert (photo.width, photo.height, photo.format) == (320, 240, name.split(maxsplit=1)[0])
    allowed = {"bit": 45, "palette": 12}.get(name.rsplit(maxsplit=1)[-1], 8)  # dithering and few colours cost precision
    assert np.abs(photo.pixels.astype(int) - reference(image)).mean() < allowed


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_photo_is_rejected_for_its_own_reason(name: str) -> None:
    data, reason = BROKEN[name]
    with pytest.raises(UnusablePhoto) as caught:
        decoder.decode(data)
    assert caught.value.reason == reason
    assert reason in reasons.PHOTO_REASONS


def test_an_inspection_tells_what_is_known_of_a_rejected_photo() -> None:
    bomb = decoder.inspect(corpus.bomb(60_000, 50_000))
    assert (bomb.valid, bomb.reason, bomb.format, bomb.width, bomb.height) == (False, "too many pixels", "PNG", 60_000, 50_000)
    assert bomb.phash is None
    assert "60000x50000" in bomb.detail


def test_a_valid_photo_s_inspection_has_everything_and_an_oversized_file_s_has_no_hash_of_bytes_never_read() -> None:
    found = decoder.inspect(PHOTOS["JPEG"])
    assert found.valid
    assert found.sha256 == hashlib.sha256(PHOTOS["JPEG"]).hexdigest()
    assert found.phash == decoder.perceptual_hash(decoder.decode(PHOTOS["JPEG"]).pixels)
    large = decoder.oversize(1 << 40, Limits())
    assert (large.valid, large.reason, large.sha256) == (False, "too many bytes", None)


def test_limits_are_those_that_are_given() -> None:
    data = PHOTOS["JPEG"]
    for limits, reason in (
        (Limits(min_side=241), "too small"),
        (Limits(max_pixels=320 * 240 - 1), "too many pixels"),
        (Limits(max_bytes=len(data) - 1), "too many bytes"),
    ):
        assert decoder.inspect(data, limits).reason == reason
    assert decoder.inspect(data, Limits(min_side=240, max_pixels=320 * 240, max_bytes=len(data))).valid


COMPRESSED = [name for name in PHOTOS if name.startswith(("JPEG", "PNG", "GIF"))]


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_cut_anywhere_before_its_last_pixel_is_never_valid(name: str) -> None:
    data = PHOTOS[name]
    # An MPO has a second photo after the first, and a GIF has more frames; neither belongs to the picture.
    # Pillow writes a TIFF's directory before or after the pixels, so for a TIFF every cut counts.
    first = {"MPO": data.find(b"\xff\xd8\xff", 2) if name == "MPO" else 0, "GIF animated": len(data) // 3}.get(name, len(data) - 16)
    cuts = [*range(0, first, max(1, first // 60)), first - 1]
    for cut in cuts:
        assert decoder.inspect(data[:cut]).reason in {"empty", "not an image", "truncated", "corrupt"}, cut


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_photo_whose_tail_is_zeros_is_never_valid(name: str) -> None:
    data = PHOTOS[name]
    end = len(data) // 3 if name == "GIF animated" else len(data) - 64
    for cut in range(100, end, max(1, end // 40)):
        assert not decoder.inspect(data[:cut].ljust(len(data), b"\0")).valid, cut


def test_a_large_jpeg_that_is_decoded_at_a_fraction_of_its_size_is_still_read_to_its_end() -> None:
    for options in ({}, {"progressive": True}):
        data = corpus.encoded(corpus.picture(3, 2000, 1400), "JPEG", **options)
        assert decoder.inspect(data).valid
        for cut in range(2000, len(data), len(data) // 25):
            assert decoder.inspect(data[:cut]).reason == "truncated"
            assert not decoder.inspect(data[:cut].ljust(len(data), b"\0")).valid
        assert decoder.inspect(data[:-2]).reason == "truncated"


def damaged_png_metadata() -> bytes:
    """A complete photo with a comment whose checksum is wrong. A switch of Pillow decides whether it refuses the photo."""
    png, comment = PHOTOS["PNG"], bytearray(corpus.chunk(b"tEXt", b"Comment\0hello"))
    comment[-1] ^= 1
    return png[:33] + bytes(comment) + png[33:]


EVERY = [*PHOTOS.values(), *(data for data, _ in BROKEN.values()), damaged_png_metadata(), *(data for _, data in corpus.fuzzed(150, 4))]


@pytest.fixture(scope="module")
def usual() -> list[tuple[bool, str | None, int | None]]:
    """The verdicts with Pillow's switches as they are."""
    return verdicts()


def verdicts() -> list[tuple[bool, str | None, int | None]]:
    """The verdicts on everything in the corpus, valid and broken."""
    return [(found.valid, found.reason, found.phash) for found in map(decoder.inspect, EVERY)]


@pytest.mark.parametrize(
    ("owner", "switch", "value"),
    [
        (ImageFile, "LOAD_TRUNCATED_IMAGES", True),
        (Image, "MAX_IMAGE_PIXELS", None),
        (Image, "MAX_IMAGE_PIXELS", 10),
        (GifImagePlugin, "LOADING_STRATEGY", GifImagePlugin.LoadingStrategy.RGB_ALWAYS),
        (ImageFile, "MAXBLOCK", 16),
        (TiffImagePlugin, "READ_LIBTIFF", True),
        (BmpImagePlugin, "USE_RAW_ALPHA", True),
        (AvifImagePlugin, "DEFAULT_MAX_THREADS", 1),
        (pi_heif.options, "DECODE_THREADS", 1),
        (pi_heif.options, "DISABLE_SECURITY_LIMITS", True),
    ],
)
def test_pillow_s_process_wide_switches_change_nothing(
    monkeypatch: pytest.MonkeyPatch, owner: ModuleType, switch: str, value: object, usual: list[tuple[bool, str | None, int | None]]
) -> None:
    monkeypatch.setattr(owner, switch, value)
    assert verdicts() == usual
    assert getattr(owner, switch) == value


def test_warnings_of_pillow_neither_leak_nor_decide() -> None:
    exif = b"II*\0\x08\0\0\0\x03\0" + struct.pack("<HHII", 271, 2, 5_000_000, 5_000_000) * 3
    jpeg = corpus.encoded(corpus.picture(), "JPEG", exif=b"Exif\0\0" + exif)
    tiff = PHOTOS["TIFF"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decoder.inspect(jpeg).valid
        assert decoder.inspect(tiff).valid
        verdicts()
    assert caught == []


def test_threads_give_the_answers_that_one_thread_gives() -> None:
    every = [*PHOTOS.values(), *(data for data, _ in BROKEN.values())] * 2
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(decoder.inspect, every)) == [decoder.inspect(data) for data in every]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(format_: str, orientation: int) -> None:
    image = corpus.picture(2, 300, 200)
    photo = decoder.decode(corpus.with_orientation(image, orientation, format_))
    image.getexif()[274] = orientation
    upright = ImageOps.exif_transpose(image)
    assert (photo.width, photo.height) == upright.size
    assert np.abs(photo.pixels.astype(int) - reference(upright)).mean() < 8


def test_a_broken_exif_block_is_no_orientation_and_no_reason_to_reject() -> None:
    straight = decoder.decode(PHOTOS["JPEG"]).pixels
    for exif in (
        b"",
        b"II",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
    ):
        turned = decoder.decode(corpus.encoded(corpus.picture(), "JPEG", exif=b"Exif\0\0" + exif)).pixels
        assert np.array_equal(turned, straight)


def test_transparent_pixels_are_white() -> None:
    clear = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    for data in (corpus.encoded(clear, "PNG"), corpus.encoded(clear, "WEBP", lossless=True), corpus.encoded(clear, "GIF")):
        assert decoder.decode(data).pixels.min() == 255


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.tile(np.linspace(0, 65535, 448).astype(np.uint16), (448, 1))
    for format_ in ("PNG", "TIFF"):
        row = decoder.decode(corpus.encoded(Image.fromarray(ramp), format_)).pixels[100, :, 0].astype(int)
        assert row[0] < 3
        assert row[-1] > 252
        assert np.abs(np.diff(row)).max() <= 2


def test_floats_by_their_usual_range_and_no_verdict_from_what_is_not_a_number() -> None:
    half = np.full((100, 100), 0.5, np.float32)
    assert set(decoder.decode(corpus.encoded(Image.fromarray(half), "TIFF")).pixels.ravel()) <= {127, 128}
    assert set(decoder.decode(corpus.encoded(Image.fromarray(half * 200), "TIFF")).pixels.ravel()) == {100}
    assert decoder.inspect(corpus.encoded(Image.fromarray(half * np.nan), "TIFF")).reason == "corrupt"


MEASURE = """
import sys
from pathlib import Path
from car_damage.photo import decoder
decoder.inspect(open(sys.argv[1], "rb").read())
def peak():
    # KiB. Not ru_maxrss: it begins with what the process had that started this one.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
for path in sys.argv[2:]:
    print(decoder.inspect(open(path, "rb").read()).reason)
print(peak() - before)
"""


def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    text = b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9)
    profile = b"icc\0\0" + zlib.compress(bytes(200 << 20), 9)
    flat = Image.new("RGB", (4096, 2048), (90, 120, 200))
    bombs = {
        "pixels": corpus.bomb(60_000, 60_000),
        "no pixels behind a size that is allowed": corpus.bomb(9_999, 9_999),
        "text": corpus.bomb(320, 240, corpus.chunk(b"zTXt", text) * 20),
        "profile": corpus.bomb(320, 240, corpus.chunk(b"iCCP", profile)),
        "avif of another size": phones.mislabelled(corpus.encoded(flat, "AVIF", speed=10), flat.size, (320, 240)),
        "heic of another size": phones.grid(512, 16, 12, (8064, 6048), (320, 240)),
        **{name: data for name, (data, reason) in BROKEN.items() if reason == "too many pixels"},
    }
    (tmp_path / "whole").write_bytes(PHOTOS["PNG"])
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "whole"), *(str(tmp_path / name) for name in bombs)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    *reasons, grown = done.stdout.splitlines()
    assert reasons == ["too many pixels", *["truncated"] * 3, *["corrupt"] * 2, *["too many pixels"] * 8]
    assert int(grown) < 20_000  # kilobytes


def test_a_progressive_jpeg_of_very_many_scans_is_refused_before_it_takes_minutes() -> None:
    data = corpus.encoded(corpus.picture(0, 320, 240), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    many = data[:scan] + data[scan:-2] * 1500 + data[-2:]
    side = struct.pack(">HH", 9_000, 9_000)
    found = decoder.inspect(many.replace(struct.pack(">HH", 240, 320), side, 1))
    assert (found.reason, found.width) == ("corrupt", 9_000)
    assert "scans" in found.detail


def test_the_hash_changes_little_with_encoding_and_size_and_much_with_the_picture() -> None:
    image = corpus.picture(5, 640, 480)
    base = decoder.inspect(corpus.encoded(image, "PNG")).phash
    for data in (
        corpus.encoded(image, "JPEG", quality=30),
        corpus.encoded(image.resize((320, 240)), "JPEG"),
        corpus.encoded(image.point(lambda value: min(255, int(value * 1.2))), "WEBP"),
    ):
        assert distance(decoder.inspect(data).phash, base) <= 8
    others = [decoder.inspect(corpus.encoded(corpus.picture(seed), "JPEG")).phash for seed in range(6, 16)]
    assert min(distance(other, base) for other in others) > 8


def distance(one: int | None, other: int | None) -> int:
    assert one is not None
    assert other is not None
    assert -(2**63) <= one < 2**63
    return ((one ^ other) & (2**64 - 1)).bit_count()


def test_the_reasons_are_a_closed_list_in_four_groups() -> None:
    groups = [reasons.PHOTO_REASONS, reasons.LABEL_REASONS, reasons.SET_REASONS, reasons.REVIEW_REASONS, {"forgotten"}]
    assert sum(map(len, groups)) == len(reasons.REASONS) == 16
    assert {reason for _, reason in BROKEN.values()} == reasons.PHOTO_REASONS - {"too many bytes"}


@given(st.binary(max_size=400), st.sampled_from([b"", *sorted({data[:24] for data in PHOTOS.values()})]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_at_all_make_inspect_raise(tail: bytes, head: bytes) -> None:
    found = decoder.inspect(head + tail)
    assert found.valid or found.reason in reasons.PHOTO_REASONS
