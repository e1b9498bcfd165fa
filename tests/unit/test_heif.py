"""The boxes of a HEIC or AVIF: what they declare binds the decoder, and a rejected file is told its true reason."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from car_damage.photo import decoder, reasons
from car_damage.photo.formats import boxes, codecs
from tests import corpus, phones

HEIC = corpus.heic(corpus.picture())
AVIF = corpus.encoded(corpus.picture(), "AVIF", speed=10)
BY_FORMAT = {"HEIC": HEIC, "AVIF": AVIF}


@pytest.mark.parametrize("format_", BY_FORMAT)
def test_a_stream_of_another_size_than_the_boxes_declare_is_corrupt_and_says_so(format_: str) -> None:
    found = decoder.inspect(phones.mislabelled(BY_FORMAT[format_], (320, 240), (64, 64)))
    assert (found.reason, found.width, found.height) == ("corrupt", 64, 64)
    assert found.detail == "a picture of 320x240 in a file that declares 64x64"


def test_a_grid_of_another_size_than_its_box_declares_is_corrupt_and_says_so() -> None:
    data = corpus.heic(corpus.picture(), tile_size=128)
    found = decoder.inspect(data.replace(struct.pack(">HH", 320, 240), struct.pack(">HH", 20_000, 20_000), 1))
    assert (found.reason, found.detail) == ("corrupt", "a picture of 20000x20000 in a file that declares 320x240")


def test_a_grid_of_very_many_tiles_is_refused_before_it_takes_minutes() -> None:
    found = decoder.inspect(phones.grid(256, 31, 31, (320, 240)))
    assert (found.reason, found.width) == ("corrupt", 320)
    assert "the parts of one picture have 63056896 pixels" in found.detail
    assert decoder.inspect(phones.grid(256, 2, 1, (320, 240))).valid


@pytest.mark.parametrize("format_", BY_FORMAT)
def test_one_picture_that_is_coded_again_and_again_is_refused(format_: str) -> None:
    data = BY_FORMAT[format_]
    start = data.index(b"mdat") + 4
    picture = data[start:]
    many, lengths = picture * 1000, (struct.pack(">I", len(picture)), struct.pack(">I", 1000 * len(picture)))
    assert lengths[0] in data[: start - 8]
    found = decoder.inspect(data[: start - 8].replace(*lengths) + phones.box(b"mdat", None, many))
    assert (found.reason, "the parts of one picture have 76800000 pixels" in found.detail) == ("corrupt", True)


@pytest.mark.parametrize("codec", [b"vvc1", b"avc1", b"jpeg"])
def test_a_photo_of_a_codec_that_is_not_read_is_of_an_unsupported_format(codec: bytes) -> None:
    found = decoder.inspect(HEIC.replace(b"heic", b"mif1").replace(b"hvc1", codec))
    assert (found.reason, found.format) == ("unsupported format", None)
    assert codec.decode() in found.detail


def test_without_a_brand_of_its_own_a_photo_is_what_its_codec_says() -> None:
    for format_, brand in (("HEIC", b"heic"), ("AVIF", b"avif")):
        photo = decoder.decode(BY_FORMAT[format_].replace(brand, b"mif1"))
        assert photo.format == format_
        assert np.array_equal(photo.pixels, decoder.decode(BY_FORMAT[format_]).pixels)


def test_of_an_animated_avif_the_photo_is_read() -> None:
    image = corpus.picture()
    moving = corpus.encoded(image, "AVIF", speed=10, save_all=True, append_images=[corpus.picture(1)])
    assert moving[8:12] == b"avis"
    with Image.open(io.BytesIO(moving)) as frames:
        first = corpus.encoded(frames.convert("RGB"), "PNG")
    assert np.array_equal(decoder.decode(moving).pixels, decoder.decode(first).pixels)


@pytest.mark.parametrize("data", [HEIC, AVIF, corpus.heic(corpus.picture(), tile_size=128)], ids=["HEIC", "AVIF", "tiles"])
def test_a_file_cut_in_the_header_of_its_pixels_is_truncated(data: bytes) -> None:
    start = data.rindex(b"mdat") - 4
    for cut in range(start, start + 20):
        assert decoder.inspect(data[:cut]).reason == "truncated", cut - start


@pytest.mark.parametrize("format_", BY_FORMAT)
def test_an_interrupted_download_into_a_file_of_the_full_size_is_truncated(format_: str) -> None:
    data = BY_FORMAT[format_]
    for kept in range(data.index(b"hdlr"), len(data) - 256, len(data) // 40):
        assert decoder.inspect(corpus.with_tail(data, len(data) - kept)).reason == "truncated", kept


def test_zeros_behind_the_last_pixel_are_no_missing_pixels() -> None:
    start = HEIC.index(b"mdat") - 4
    length = len(HEIC) - start
    padded = HEIC[:start] + struct.pack(">I", length + 512) + HEIC[start + 4 :] + bytes(512)
    assert np.array_equal(decoder.decode(padded).pixels, decoder.decode(HEIC).pixels)
    assert decoder.inspect(corpus.with_tail(padded, 512 + 400)).reason == "truncated"


def test_two_readings_of_the_boxes_are_none() -> None:
    start = HEIC.index(b"meta") - 4
    meta = HEIC[start : HEIC.index(b"mdat") - 4]
    for between in (b"", b"\0\0\0\x08\0\0\0\1"):
        found = decoder.inspect(HEIC + between + meta)
        assert (found.reason, found.detail) == ("corrupt", "two boxes meta")


def test_a_photo_of_no_codec_at_all_is_corrupt() -> None:
    primary = phones.box(b"pitm", 0, struct.pack(">H", 1))
    assert primary in HEIC
    found = decoder.inspect(HEIC.replace(b"heic", b"mif1").replace(primary, primary[:-1] + b"\7"))
    assert (found.reason, found.format) == ("corrupt", "HEIC")


@pytest.mark.parametrize("format_", BY_FORMAT)
def test_boxes_with_any_byte_changed_are_read_or_refused(format_: str) -> None:
    data = BY_FORMAT[format_].replace(format_.lower().encode(), b"mif1")
    for at in range(12, data.index(b"mdat") + 30):
        found = decoder.inspect(data[:at] + bytes([255 - data[at]]) + data[at + 1 :])
        assert found.valid or found.reason in reasons.PHOTO_REASONS


def test_the_sizes_in_streams_are_those_that_were_encoded() -> None:
    for size in ((320, 240), (300, 202), (1000, 70)):
        image = Image.new("RGB", size)
        for data in (corpus.heic(image), corpus.encoded(image, "AVIF", speed=10)):
            start = data.index(b"meta")
            stop = start - 4 + int.from_bytes(data[start - 4 : start], "big")
            pictures = codecs.Pictures(data, boxes.items(data, start + 4, stop))
            coded = pictures.coded()
            assert pictures.declared() == size
            assert all(0 <= one - other < 8 for one, other in zip(coded, size, strict=True))


def test_a_sequence_header_of_av1_of_several_frames() -> None:
    # 5.5.1: profile, no still picture; no timing; no delays; one operating point of level 13 with its tier; 11 and 10 bits.
    bits = "000" + "00" + "0" + "0" + "00000" + "0" * 12 + "01101" + "1" + "1010" + "1001" + f"{1919:011b}" + "{:010b}"
    for height, expected in ((1000, (1920, 1000)), (400, (1920, 1024))):
        text = bits.format(height - 1)
        header = int(text.ljust(-len(text) // 8 * -8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
        assert codecs._av1(b"\x0a" + bytes([len(header)]) + header) == (expected, 0)
