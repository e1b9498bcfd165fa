"""Reads the boxes of a HEIC or an AVIF: which items it has, what they are made of, and where their bytes are.

The layout is that of ISO/IEC 14496-12 and 23008-12. Whatever leaves room for two readings is refused: the library that decodes
must see the items that are seen here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_MOST_BOXES = 100_000
_MOST_BYTES = 1 << 20
"""Of one list of items. Larger lists are hostile: libheif reads at most 1000 items."""

Box = tuple[bytes, int, int]
"""Kind, and the offsets in the file at which the content begins and ends."""


class Bits:
    """Numbers of any width, one after the other, the most significant bit first. Raises ValueError behind the last."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, width: int) -> int:
        start, self._at = self._at, self._at + width
        if self._at > 8 * len(self._data):
            raise ValueError("a box ends early")
        word = int.from_bytes(self._data[start // 8 : (self._at + 7) // 8], "big")
        return word >> -self._at % 8 & (1 << width) - 1


@dataclass
class Item:
    """One picture of the file, or its metadata."""

    kind: bytes = b""
    """The codec, such as hvc1 and av01; grid and others for a picture that is made of others; Exif and others for metadata."""
    extents: list[tuple[int, int]] = field(default_factory=list)
    """Where its bytes are: offsets in the file, from and to."""
    inputs: list[int] = field(default_factory=list)
    """The numbers of the items of which it is made, each as often as it is used."""
    properties: list[Box] = field(default_factory=list)

    def data(self, file: bytes) -> bytes:
        return b"".join(file[start:stop] for start, stop in self.extents)


@dataclass(frozen=True)
class Items:
    """All items of a file, by number."""

    primary: int
    every: dict[int, Item]

    def codec(self) -> bytes:
        """The kind of the primary item; if it is made of others, of the first of them. Empty if there is none."""
        item = self.every.get(self.primary, Item())
        for _ in range(8):
            if item.inputs:
                item = self.every.get(item.inputs[0], Item())
        return item.kind


def boxes(data: bytes, at: int, end: int) -> Iterator[Box]:
    """The boxes from one offset to another. Only the last can be longer than there is room. Raises ValueError."""
    for _ in range(_MOST_BOXES):
        if at + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 16 if length == 1 else 8
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16].ljust(8, b"\xff"), "big")
        length = length or end - at
        if length < head:
            raise ValueError(f"a box {kind!r} of {length} bytes")
        yield kind, at + head, at + length
        at += length
    raise ValueError(f"more than {_MOST_BOXES} boxes")


def items(data: bytes, start: int, stop: int) -> Items:
    """The items that the content of a meta box lists, which begins and ends at these offsets.

    Raises:
        ValueError, KeyError: the boxes cannot be read.
    """
    inner = _single(data, start + 4, stop)
    found: dict[int, Item] = {}
    _read_kinds(data, inner[b"iinf"], found)
    _read_places(data, inner, found)
    if b"iref" in inner:
        _read_inputs(data, inner[b"iref"], found)
    _read_properties(data, inner[b"iprp"], found)
    primary = _list(data, inner[b"pitm"])
    return Items(primary.read(16 if _version(primary) == 0 else 32), found)


def _single(data: bytes, start: int, stop: int) -> dict[bytes, Box]:
    """The boxes by their kind, each of which there is once."""
    found: dict[bytes, Box] = {}
    for box in boxes(data, start, stop):
        if box[0] in found and box[0] not in (b"free", b"skip", b"uuid"):
            raise ValueError(f"two boxes {box[0]!r}")
        if box[2] > stop:
            raise ValueError(f"the box {box[0]!r} is longer than the one around it")
        found[box[0]] = box
    return found


def _list(data: bytes, box: Box) -> Bits:
    kind, start, stop = box
    if stop - start > _MOST_BYTES:
        raise ValueError(f"the box {kind!r} has {stop - start} bytes")
    return Bits(data[start:stop])


def _version(content: Bits) -> int:
    return content.read(32) >> 24


def _read_kinds(data: bytes, box: Box, found: dict[int, Item]) -> None:
    _, start, stop = box
    for kind, at, end in boxes(data, start + (6 if data[start] == 0 else 8), stop):
        content = Bits(data[at : min(end, at + 12)])
        version = _version(content)
        if kind != b"infe" or version < 2:
            continue
        number = content.read(16 if version == 2 else 32)
        if number in found:
            raise ValueError(f"two items {number}")
        content.read(16)
        found[number] = Item(content.read(32).to_bytes(4, "big"))


def _read_places(data: bytes, inner: dict[bytes, Box], found: dict[int, Item]) -> None:
    content = _list(data, inner[b"iloc"])
    version = _version(content)
    offset, length, base, index = (8 * content.read(4) for _ in range(4))
    wide = 32 if version == 2 else 16
    for _ in range(content.read(wide)):
        number = content.read(wide)
        method = content.read(16) & 15 if version else 0
        if method > 1 or content.read(16):
            raise ValueError(f"the bytes of item {number} are in another item or another file")
        _, origin, end = inner[b"idat"] if method else (b"", 0, len(data))
        origin += content.read(base)
        for _ in range(content.read(16)):
            content.read(index if version else 0)
            start = origin + content.read(offset)
            size = content.read(length)
            found.setdefault(number, Item()).extents.append((start, start + size if size else end))


def _read_inputs(data: bytes, box: Box, found: dict[int, Item]) -> None:
    _, start, stop = box
    wide = 32 if data[start] else 16
    for reference in boxes(data, start + 4, stop):
        content = _list(data, reference)
        maker = content.read(wide)
        inputs = [content.read(wide) for _ in range(content.read(16))]
        if reference[0] == b"dimg":
            found[maker].inputs.extend(inputs)


def _read_properties(data: bytes, box: Box, found: dict[int, Item]) -> None:
    inner = list(boxes(data, box[1], box[2]))
    lists = [one for one in inner if one[0] == b"ipco"]
    if len(lists) != 1:
        raise ValueError(f"{len(lists)} boxes ipco")
    properties = list(boxes(data, lists[0][1], lists[0][2]))
    for one in (one for one in inner if one[0] == b"ipma"):
        content = _list(data, one)
        head = content.read(32)
        narrow = 15 if head & 1 else 7
        for _ in range(content.read(32)):
            number = content.read(32 if head >> 24 else 16)
            for _ in range(content.read(8)):
                index = content.read(1 + narrow) & (1 << narrow) - 1
                if index and number in found:
                    found[number].properties.append(properties[index - 1])
