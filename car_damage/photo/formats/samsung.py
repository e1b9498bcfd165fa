"""Finds the trailer that Samsung's phones write behind a JPEG. Their panoramas have it in place of the JPEG's end mark."""

import struct


def trailer(data: bytes) -> int | None:
    """The offset of the trailer in bytes; None for a file without one.

    It ends in a directory: SEFH, version, number of entries, an entry of 12 bytes for each block (its second number is how far before
    the directory the block begins), the directory's length, SEFT.
    """
    if not data.endswith(b"SEFT") or len(data) < 24:
        return None
    (length,) = struct.unpack_from("<I", data, len(data) - 8)
    directory = len(data) - 8 - length
    if directory < 0 or data[directory : directory + 4] != b"SEFH":
        return None
    entries = range(directory + 12, len(data) - 19, 12)
    before = max((struct.unpack_from("<I", data, entry + 4)[0] for entry in entries), default=0)
    return directory - before if 0 < before < directory else None
