"""Reads the container of a BMP."""

import io

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from car_damage.photo.formats.header import Header, ends_early, unusable
from car_damage.photo.formats.pixels import load as load_tiles
from car_damage.photo.reasons import UNSUPPORTED_FORMAT


def read(data: bytes) -> Header:
    """Read the header with Pillow, which decodes no pixels for that."""
    image = BmpImageFile(io.BytesIO(data))
    width, height = image.size
    if image.info["compression"] in (1, 2):
        # Pillow decodes run-length coding in Python, pixel by pixel: seconds for a file of a few bytes.
        raise unusable(UNSUPPORTED_FORMAT, "BMP with run-length coding")

    def load() -> Image.Image:
        _, _, offset, args = image.tile[0]
        stride = args[1] if isinstance(args, tuple) else 0
        if offset + stride * (height - 1) > len(data):
            return ends_early()
        loaded = load_tiles(image, data)
        # The fourth byte of an uncompressed pixel is unused. Pillow's BmpImagePlugin.USE_RAW_ALPHA must not change that.
        return loaded.convert("RGB") if image.info["compression"] == 0 and loaded.mode == "RGBA" else loaded

    return Header("BMP", width, height, load)
