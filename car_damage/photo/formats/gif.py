"""Reads the container of a GIF."""

import struct

from PIL import Image

from car_damage.photo.formats.header import Header, unusable
from car_damage.photo.formats.pixels import run
from car_damage.photo.reasons import CORRUPT


def read(data: bytes) -> Header:
    """Read the blocks up to the first frame. Only that frame is decoded."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, palette, transparent = 13, b"", None
    if flags & 128:
        palette = data[at : at + (6 << (flags & 7))]
        at += 6 << (flags & 7)
    while data[at] != 0x2C:
        if data[at] != 0x21:
            raise unusable(CORRUPT, "a GIF without an image")
        if data[at + 1] == 0xF9 and data[at + 2] >= 4:
            transparent = data[at + 6] if data[at + 3] & 1 else None
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, at + 1)
    at += 10
    if flags & 128:
        palette = data[at : at + (6 << (flags & 7))]
        at += 6 << (flags & 7)
    width, height = max(width, left + frame_width), max(height, top + frame_height)
    code_bits = data[at]

    def load() -> Image.Image:
        size, pixels = (frame_width, frame_height), memoryview(data)[at + 1 :]
        frame = run("P" if palette else "L", size, pixels, "gif", (code_bits, bool(flags & 64), -1))
        if palette:
            frame.putpalette(palette)
        if transparent is not None:
            frame.info["transparency"] = transparent
        elif (frame_width, frame_height) == (width, height):
            return frame
        over = frame.convert("RGBA")
        canvas = Image.new("RGBA", (width, height), "white")
        canvas.paste(over, (left, top), over)
        return canvas

    return Header("GIF", width, height, load)
