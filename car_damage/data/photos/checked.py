"""Reads photos that were validated, and checks that they are still the same."""

import hashlib
from collections.abc import Iterator, MutableMapping, Sequence

from car_damage.errors import CarDamageError, FileMissing, PhotoChanged, Unavailable
from car_damage.ports import Files

NEXT = "; the next run gives it a verdict"
"""What to do, at the end of a message."""


def read_checked(files: Files, path: str, sha256: str) -> bytes:
    """A photo's bytes, if they are those that were validated, whose sha256 is given in hexadecimal.

    Raises:
        PhotoChanged: it is gone, or has other bytes.
        Unavailable: it cannot be read, for a reason that may pass.
    """
    try:
        data = files.read(path)
    except FileMissing as error:
        raise PhotoChanged(f"{path} was validated but is gone{NEXT}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PhotoChanged(f"{path} has other bytes than when it was validated{NEXT}")
    return data


def readable(files: Files, paths: Sequence[str], sha256s: Sequence[str], left_out: MutableMapping[str, CarDamageError]) -> Iterator[bytes]:
    """The bytes of each photo that is still the one that was validated, in order. The others go into `left_out`, with the reason."""
    for path, sha256 in zip(paths, sha256s, strict=True):
        try:
            data = read_checked(files, path, sha256)
        except (PhotoChanged, Unavailable) as error:
            left_out[path] = error
        else:
            yield data
