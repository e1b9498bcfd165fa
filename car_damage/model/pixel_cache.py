"""Decoded photos of which no more lie on disk than there is room for: the others are read and decoded whenever they are asked for."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from car_damage.errors import CarDamageError

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PixelCache:
    """As an array (n, 224, 224, 3) uint8 is read: by a row's number, a slice, or an array of numbers."""

    kept: Pixels
    """(k, 224, 224, 3) uint8: those on disk."""
    slots: Rows
    """For each photo its place in `kept`; -1 where it has none."""
    decode: Callable[[int], Pixels]
    """Reads, checks and decodes the photo of that number."""
    pool: ThreadPoolExecutor
    rows: Rows
    """(n,) the numbers of the photos that this one has."""
    failures: list[CarDamageError] = field(default_factory=list)
    """What `decode` raised, for those who are shown it wrapped into an error of TensorFlow's."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, 224, 224, 3)."""
        return (len(self.rows), *self.kept.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, rows: slice) -> "PixelCache":
        """Some of them, without reading any."""
        return replace(self, rows=self.rows[rows])

    def __getitem__(self, index: int | slice | Rows) -> Pixels:
        asked = np.atleast_1d(self.rows[index])
        slots = self.slots[asked]
        pixels = np.empty((len(asked), *self.kept.shape[1:]), np.uint8)
        pixels[slots >= 0] = self.kept[slots[slots >= 0]]
        elsewhere = np.flatnonzero(slots < 0)
        try:
            for place, photo in zip(elsewhere, self.pool.map(self.decode, asked[elsewhere].tolist()), strict=True):
                pixels[place] = photo
        except CarDamageError as error:
            self.failures.append(error)
            raise
        return pixels[0] if isinstance(index, int | np.integer) else pixels
