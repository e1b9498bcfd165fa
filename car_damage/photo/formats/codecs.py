"""How many pixels the pictures of a HEIC or an AVIF have in their own streams, where a decoder finds them.

The boxes around a stream declare a size, too, but nothing makes a decoder keep to it. HEVC is ITU-T H.265, AV1 is the
"AV1 Bitstream & Decoding Process Specification".
"""

import struct
from collections.abc import Iterator

from car_damage.photo.formats.boxes import Bits, Item, Items

Size = tuple[int, int]
"""Width and height in pixels."""

CODECS = {b"hvc1": "HEIC", b"av01": "AVIF"}
"""Kind of an item -> the format of a photo of it."""
_MOST_UNITS = 20_000
"""Of one picture. HEVC allows 600 slices."""
_DEEPEST = 8
"""Pictures that are made of pictures that are made of pictures."""


class Pictures:
    """What decoding costs, item by item. Raises ValueError where a stream cannot be read."""

    def __init__(self, data: bytes, items: Items) -> None:
        self._data, self._every = data, items.every
        self._read = 0
        self._streams: dict[tuple[object, ...], tuple[Size, int]] = {}
        self._work: dict[int, int] = {}

    def declared(self) -> Size:
        """The size of the largest picture by the boxes ispe."""
        return _largest([_declared(self._data, item) for item in self._every.values()])

    def coded(self) -> Size:
        """The size of the largest picture by what a decoder reads."""
        return _largest([self._coded(item)[0] for item in self._every.values()])

    def work(self) -> int:
        """Pixels that are decoded for the one picture that needs most, each as often as it is decoded."""
        return max((self._of(number, 0) for number in self._every), default=0)

    def _of(self, number: int, depth: int) -> int:
        if depth > _DEEPEST:
            raise ValueError("pictures that are made of each other")
        if number not in self._work:
            item = self._every[number]
            (width, height), count = self._coded(item)
            self._work[number] = width * height * count + sum(self._of(one, depth + 1) for one in item.inputs)
        return self._work[number]

    def _coded(self, item: Item) -> tuple[Size, int]:
        """The size, and how often a picture of it is decoded."""
        key = (item.kind, *item.extents, *item.properties)
        if key not in self._streams:
            self._read += sum(stop - start for start, stop in item.extents)
            if self._read > 4 * len(self._data):
                raise ValueError("many items of the same bytes")
            self._streams[key] = self._stream(item)
        return self._streams[key]

    def _stream(self, item: Item) -> tuple[Size, int]:
        data = item.data(self._data)
        if item.kind == b"hvc1":
            configured = [unit for record in self._properties(item, b"hvcC") for unit in _configured(record)]
            return _hevc([*configured, *_units(data)])
        if item.kind == b"av01":
            return _av1(b"".join(record[4:] for record in self._properties(item, b"av1C")) + data)
        if item.kind in (b"grid", b"iovl"):
            at = 4 if item.kind == b"grid" else 10
            return struct.unpack_from(">II" if data[1] & 1 else ">HH", data, at), 1
        return _declared(self._data, item), 1

    def _properties(self, item: Item, kind: bytes) -> list[bytes]:
        return [self._data[start:stop] for one, start, stop in item.properties if one == kind]


def _largest(sizes: list[Size]) -> Size:
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def _declared(data: bytes, item: Item) -> Size:
    sizes = [struct.unpack_from(">II", data, start + 4) for kind, start, _ in item.properties if kind == b"ispe"]
    return _largest([(width, height) for width, height in sizes])


def _configured(record: bytes) -> Iterator[bytes]:
    """The units in a box hvcC: an array for each kind of unit."""
    at = 23
    for _ in range(record[22]):
        (count,) = struct.unpack_from(">H", record, at + 1)
        at += 3
        for _ in range(count):
            (length,) = struct.unpack_from(">H", record, at)
            yield record[at + 2 : at + 2 + length]
            at += 2 + length


def _units(data: bytes) -> Iterator[bytes]:
    """The beginnings of the units of a picture, each of which follows its length."""
    at = 0
    for _ in range(_MOST_UNITS):
        if at + 4 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 4 + min(length, 200)]
        at += 4 + length
    raise ValueError(f"more than {_MOST_UNITS} units in one picture")


def _hevc(units: list[bytes]) -> tuple[Size, int]:
    """The largest size of a sequence parameter set, and the number of slices that begin a picture."""
    base = [unit for unit in units if len(unit) > 2 and not unit[0] & 1 and not unit[1] & 0xF8]
    sizes = [_sequence(unit) for unit in base if unit[0] >> 1 == 33]
    return _largest(sizes), sum(unit[0] >> 1 < 32 and unit[2] >> 7 for unit in base)


def _sequence(unit: bytes) -> Size:
    """The size in a sequence parameter set, 7.3.2.2, without the cropping, which comes after decoding."""
    bits = Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))
    layers = bits.read(8) >> 1 & 7
    bits.read(96)
    present = [bits.read(2) for _ in range(8 if layers else 0)][:layers]
    for one in present:
        bits.read(88 * (one >> 1) + 8 * (one & 1))
    _exponential(bits)
    if _exponential(bits) == 3:
        bits.read(1)
    return _exponential(bits), _exponential(bits)


def _exponential(bits: Bits) -> int:
    """An Exp-Golomb number, 9.2."""
    zeros = 0
    while not bits.read(1):
        zeros += 1
    return (1 << zeros) - 1 + bits.read(zeros)


def _av1(data: bytes) -> tuple[Size, int]:
    """The largest size of a sequence header, and the number of frames."""
    sizes, frames, at = [(0, 0)], 0, 0
    for _ in range(_MOST_UNITS):
        if at >= len(data):
            return _largest(sizes), frames
        kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        length, at = _leb128(data, at + 1 + extended) if sized else (len(data) - at - 1 - extended, at + 1 + extended)
        if kind == 1:
            sizes.append(_header(Bits(data[at : at + min(length, 1000)])))
        frames += kind in (3, 6)
        at += length
    raise ValueError(f"more than {_MOST_UNITS} units in one picture")


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 56, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a length of more than eight bytes")


def _header(bits: Bits) -> Size:
    """The largest size of a frame after a sequence header, 5.5.1."""
    bits.read(4)
    reduced = bits.read(1)
    if reduced:
        bits.read(5)
    else:
        _skip_operating_points(bits)
    widths = [bits.read(4) + 1 for _ in range(2)]
    sides = [bits.read(width) + 1 for width in widths]
    # A frame may have a size of its own, of as many bits. Encoders use no more bits than the largest size needs.
    width, height = (side if reduced or bits_ <= (side - 1).bit_length() else 1 << bits_ for side, bits_ in zip(sides, widths, strict=True))
    return width, height


def _skip_operating_points(bits: Bits) -> None:
    timing, model, delay = bits.read(1), 0, 0
    if timing:
        bits.read(64)
        if bits.read(1):
            _exponential(bits)
        model = bits.read(1)
    if model:
        delay = bits.read(5) + 1
        bits.read(42)
    delays = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if model and bits.read(1):
            bits.read(2 * delay + 1)
        if delays and bits.read(1):
            bits.read(4)
