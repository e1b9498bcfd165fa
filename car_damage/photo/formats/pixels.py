"""Runs Pillow's pixel decoders on a container that has been read already, and requires that the pixels are complete."""

from typing import Any

from PIL import Image
from PIL.ImageFile import ImageFile

from car_damage.photo.formats.header import unusable
from car_damage.photo.reasons import CORRUPT, TRUNCATED


def load(image: ImageFile, data: bytes) -> Image.Image:
    """Decode every tile of an image whose header Pillow has read. The tiles are in `data`."""
    # Without an image of ours, TIFF would check Pillow's process-wide limit of pixels when it creates one.
    image.im = Image.new(image.mode, image.size).im
    image.load_prepare()
    extents = [tile[1] or (0, 0, *image.size) for tile in image.tile]
    if sum((right - left) * (lower - upper) for left, upper, right, lower in extents) > 8 * image.width * image.height:
        # The planes of the colours cover the image once each. More tiles would only cost time.
        raise unusable(CORRUPT, f"{len(extents)} overlapping tiles")
    for tile in image.tile:
        run(image, tile, image.decoderconfig, data)
    image.tile = []
    return image


def run(image: Image.Image, tile: tuple[Any, ...], config: tuple[Any, ...], data: bytes) -> None:
    """Run one of Pillow's pixel decoders from a tile's offset to the end of `data`.

    `ImageFile.load` does the same, but obeys LOAD_TRUNCATED_IMAGES and ignores the errors of all tiles but the last.
    """
    name, extents, offset, args = tile
    decoder = Image._getdecoder(image.mode, name, args, config)  # noqa: SLF001 - there is no public way to the decoders
    try:
        decoder.setimage(image.im, extents)
        consumed, status = decoder.decode(memoryview(data)[offset:])
    finally:
        decoder.cleanup()
    if consumed >= 0:
        raise unusable(TRUNCATED, "the pixels end early")
    if status < 0:
        raise unusable(CORRUPT, f"the {name} decoder failed with status {status}")
