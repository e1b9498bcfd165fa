"""A cache of decoded photos with limited room on disk. Photos that do not fit are read and decoded at each access."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from car_damage.errors import CarDamageError
from car_damage.photo.decoder import Pixels

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PixelCache:
    """Photos, indexed like an array (n, 224, 224, 3) uint8: by a row number, a slice, or an array of row numbers."""

    kept: Pixels
    """(k, 224, 224, 3) uint8: the photos on disk."""
    slots: Rows
    """For each photo its row in `kept`; -1 if it is not on disk."""
    decode: Callable[[int], Pixels]
    """Reads, checks and decodes a photo by its number."""
    pool: ThreadPoolExecutor
    """Decodes the photos that are not on disk."""
    rows: Rows
    """(n,) the numbers of the photos, in the order of the rows."""
    failures: list[CarDamageError] = field(default_factory=list)
    """The errors of `decode`, because TensorFlow replaces them by errors of its own."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, 224, 224, 3)."""
        return (len(self.rows), *self.kept.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, rows: slice) -> "PixelCache":
        """The photos of these rows, without reading them."""
        return replace(self, rows=self.rows[rows])

    def __getitem__(self, index: int | slice | Rows) -> Pixels:
        numbers = np.atleast_1d(self.rows[index])
        slots = self.slots[numbers]
        pixels = np.empty((len(numbers), *self.kept.shape[1:]), np.uint8)
        pixels[slots >= 0] = self.kept[slots[slots >= 0]]
        elsewhere = np.flatnonzero(slots < 0)
        try:
            for place, photo in zip(elsewhere, self.pool.map(self.decode, numbers[elsewhere].tolist()), strict=True):
                pixels[place] = photo
        except CarDamageError as error:
            self.failures.append(error)
            raise
        return pixels[0] if isinstance(index, int | np.integer) else pixels
