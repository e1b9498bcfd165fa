"""A cache of decoded photos with limited room on disk. Photos that do not fit are read and decoded at each access, so they can be gone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from car_damage.errors import CarDamageError, PhotoChanged, Unavailable
from car_damage.model.pixels.reading import failures
from car_damage.photo.decoder import Pixels
from car_damage.ports import Clock
from car_damage.stage import silent

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PixelCache:
    """Photos, indexed like an array (n, 224, 224, 3) uint8: by a row number, a slice, or an array of row numbers."""

    kept: Pixels
    """(k, 224, 224, 3) uint8: the photos on disk."""
    slots: Rows
    """For each photo its row in `kept`; -1 if it is not on disk."""
    decode: Callable[[int, bool], Pixels]
    """Reads, checks and decodes a photo by its number; True: it could not be read before, so this waits for no outage."""
    pool: ThreadPoolExecutor
    """Decodes the photos that are not on disk."""
    clock: Clock
    """Waits before photos are read again."""
    rows: Rows
    """(n,) the numbers of the photos, in the order of the rows."""
    may_lose: int = 0
    """Photos that may become unreadable after they were counted in. With more, reading raises."""
    lost: dict[int, CarDamageError] = field(default_factory=dict)
    """The numbers of the photos that could not be read when they were last asked for, with the reason: PhotoChanged, or Unavailable."""
    failures: list[CarDamageError] = field(default_factory=list)
    """The errors that were raised, because TensorFlow replaces them by errors of its own."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, 224, 224, 3)."""
        return (len(self.rows), *self.kept.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, rows: slice | Rows) -> "PixelCache":
        """The photos of these rows, without reading them."""
        return replace(self, rows=self.rows[rows])

    @property
    def there(self) -> npt.NDArray[np.bool_]:
        """(n,) which photos could be read when they were last asked for."""
        return np.array([number not in self.lost for number in self.rows.tolist()], bool)

    def __getitem__(self, index: int | slice | Rows) -> Pixels:
        """Raises PhotoChanged or Unavailable if one of them cannot be read."""
        pixels, there = self.read(index)
        if not there.all():
            raise self._failed(self.lost[int(np.atleast_1d(self.rows[index])[~there][0])])
        return pixels[0] if isinstance(index, int | np.integer) else pixels

    def read(self, index: int | slice | Rows) -> tuple[Pixels, npt.NDArray[np.bool_]]:
        """The photos that can be read (m, 224, 224, 3), and which of the asked ones they are (n,).

        Raises:
            PhotoChanged, Unavailable: more than `may_lose` are lost.
        """
        numbers = np.atleast_1d(self.rows[index])
        pixels, elsewhere = self._on_disk(numbers)
        there = np.ones(len(numbers), bool)
        for place, read in zip(elsewhere, self.pool.map(self._attempt, numbers[elsewhere].tolist()), strict=True):
            there[place] = read is not None
            if read is not None:
                pixels[place] = read
        if len(self.lost) > self.may_lose:
            raise self._failed(next(reversed(self.lost.values())))
        return pixels[there], there

    def look(self, index: Rows) -> tuple[Pixels, npt.NDArray[np.bool_]]:
        """As `read_together`, but for a training that does not depend on these photos: those that cannot be read are not lost."""
        return replace(self, lost={}).read_together(index)

    def read_together(self, index: Rows) -> tuple[Pixels, npt.NDArray[np.bool_]]:
        """As `read`, but all photos that cannot be read are waited for together, and any number may be lost."""
        numbers = self.rows[index]
        pixels, elsewhere = self._on_disk(numbers)

        def keep(place: int) -> None:
            pixels[elsewhere[place]] = self.decode(int(numbers[elsewhere[place]]), True)

        failed = failures(self.pool, keep, len(elsewhere), self.clock, silent)
        self.lost.update({int(numbers[elsewhere[place]]): error for place, error in failed.items()})
        there = np.ones(len(numbers), bool)
        there[elsewhere[list(failed)]] = False
        return pixels[there], there

    def _on_disk(self, numbers: Rows) -> tuple[Pixels, Rows]:
        """Room for all of these photos, with those that are on disk; and the places of the others."""
        slots = self.slots[numbers]
        pixels = np.empty((len(numbers), *self.kept.shape[1:]), np.uint8)
        pixels[slots >= 0] = self.kept[slots[slots >= 0]]
        return pixels, np.flatnonzero(slots < 0)

    def _failed(self, error: CarDamageError) -> CarDamageError:
        self.failures.append(error)
        return error

    def _attempt(self, number: int) -> Pixels | None:
        try:
            pixels = self.decode(number, number in self.lost)
        except (PhotoChanged, Unavailable) as error:
            self.lost[number] = error
            return None
        self.lost.pop(number, None)
        return pixels
