"""Runs Pillow's pixel decoders on a container that has been read already, and requires that the pixels are complete."""

from typing import Any

from PIL import Image, ImageChops
from PIL.ImageFile import ImageFile

from car_damage.photo.formats.header import unusable
from car_damage.photo.reasons import CORRUPT, TRUNCATED


def load(image: ImageFile, data: bytes) -> Image.Image:
    """Decode every tile of an image whose header Pillow has read. The tiles are in `data`.

    `ImageFile.load` does the same, but obeys LOAD_TRUNCATED_IMAGES and MAX_IMAGE_PIXELS, and ignores the errors of all tiles but the last.
    """
    whole = 0, 0, *image.size
    boxes = [extents or whole for _, extents, *_ in image.tile]
    if sum((right - left) * (lower - upper) for left, upper, right, lower in boxes) > 8 * image.width * image.height:
        # The planes of the colours cover the image once each. More tiles would only cost time.
        raise unusable(CORRUPT, f"{len(boxes)} overlapping tiles")
    parts = (
        run(image.mode, (right - left, lower - upper), memoryview(data)[offset:], name, _arguments(args) + image.decoderconfig)
        for (left, upper, right, lower), (name, _, offset, args) in zip(boxes, image.tile, strict=True)
    )
    loaded = next(parts) if boxes == [whole] else Image.new(image.mode, image.size)
    seen = set()
    for box, part in zip(boxes, parts, strict=False):
        # The tiles of a second plane have another colour of the same place, and zeros for those of the first.
        loaded.paste(ImageChops.add(loaded.crop(box), part) if box in seen else part, box)
        seen.add(box)
    if image.palette is not None and loaded.mode in ("P", "PA"):
        loaded.putpalette(image.palette)
    if "transparency" in image.info:
        loaded.info["transparency"] = image.info["transparency"]
    return loaded


def run(mode: str, size: tuple[int, int], data: bytes | memoryview, decoder: str, arguments: tuple[Any, ...]) -> Image.Image:
    """An image of this mode and size, decoded from the start of `data`."""
    try:
        return Image.frombytes(mode, size, data, decoder, arguments)
    except ValueError as error:
        # These are Pillow's words for a decoder that waits for more data.
        if "not enough" in str(error):
            raise unusable(TRUNCATED, "the pixels end early") from error
        raise unusable(CORRUPT, f"the {decoder} decoder says: {error}") from error


def _arguments(args: Any) -> tuple[Any, ...]:
    return args if isinstance(args, tuple) else (args,)
