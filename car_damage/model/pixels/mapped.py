"""Arrays in files of a scratch folder, for what is read again and again and may be larger than the memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from car_damage.errors import Unavailable


def mapped(file: Path, shape: tuple[int, ...], dtype: type[np.generic], what: str, instead: str) -> npt.NDArray[Any]:
    """An array of zeros in a file, whose room on disk is reserved: a write to a full disk would kill the process without a message.

    Args:
        file: that does not exist.
        shape: of the array. One without numbers needs no file.
        dtype: of the array.
        what: it holds, for the message.
        instead: what to do besides making room, for the message.

    Raises:
        Unavailable: there is no room.
    """
    if not np.prod(shape):
        return np.zeros(shape, dtype)  # an empty file cannot be mapped
    array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as reserved:
            try:
                os.posix_fallocate(reserved.fileno(), 0, file.stat().st_size)
            except OSError as error:
                needed = f"{file.stat().st_size:,} bytes for {what}"
                raise Unavailable(f"{file.parent} has no room for {needed}: {error.strerror}; make room, or {instead}") from error
    return array
