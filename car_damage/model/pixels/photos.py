"""The photos of one silver version, decoded once and kept on disk for as long as a training lasts.

Every epoch reads them again, so they are kept decoded in a memory-mapped file in a temporary folder: 150,528 bytes a photo on disk,
and in memory as much as the operating system has room for. Photos beyond `images.cache_bytes` are read and decoded in each epoch. A
photo that cannot be read, or whose bytes have changed since validation, is left out: from the start, or once it is asked for in vain.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from car_damage.data.photos.checked import NEXT, read_checked
from car_damage.data.photos.splits import TEST
from car_damage.errors import CarDamageError, PhotoChanged, SettingsError, UnusablePhoto
from car_damage.machine import Scratch, cores
from car_damage.model.pixels.mapped import mapped
from car_damage.model.pixels.pixel_cache import PixelCache
from car_damage.model.pixels.reading import WAITS, failures
from car_damage.patience import Patience
from car_damage.photo.decoder import decode
from car_damage.photo.limits import SIZE, Limits
from car_damage.photo.preparation import Preparation
from car_damage.ports import Clock, Files
from car_damage.stage import Progress

COLUMNS = ("path", "label", "sha256", "split")
"""The columns that are read from the silver table."""

_PHOTO_BYTES = SIZE * SIZE * 3
_SHARE = 0.8
"""Share of the free disk that decoded photos may take: other programs write there, too."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Photos:
    """Some photos, in the order of their rows."""

    pixels: npt.NDArray[np.uint8] | PixelCache
    """(n, 224, 224, 3) uint8, RGB; a view of the file on disk, or a cache of a part of them."""
    labels: npt.NDArray[np.int64]
    """(n,) class numbers."""
    sha256s: tuple[str, ...]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def there(self) -> npt.NDArray[np.bool_]:
        """(n,) which photos could be read when they were last asked for."""
        return self.pixels.there if isinstance(self.pixels, PixelCache) else np.ones(len(self), bool)

    def read(self, rows: slice | npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """The pixels of those that can be read (m, 224, 224, 3) uint8, and which of the rows they are (n,): see `PixelCache.read`."""
        if isinstance(self.pixels, PixelCache):
            return self.pixels.read(rows)
        return self.pixels[rows], np.ones(len(self.labels[rows]), bool)

    def look(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """As `read`, but for nothing that the training depends on: see `PixelCache.look`."""
        return self.pixels.look(rows) if isinstance(self.pixels, PixelCache) else self.read(rows)

    def read_together(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """As `read`, for many photos that may be unreadable for a while: see `PixelCache.read_together`."""
        return self.pixels.read_together(rows) if isinstance(self.pixels, PixelCache) else self.read(rows)

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Photos":
        """Some of the photos."""
        rows = np.flatnonzero(chosen)
        if len(rows) == len(self):
            return self
        pixels = self.pixels.part(rows) if isinstance(self.pixels, PixelCache) else self.pixels[rows]
        return Photos(pixels, self.labels[rows], tuple(self.sha256s[row] for row in rows), tuple(self.paths[row] for row in rows))


@dataclass(frozen=True)
class PhotoSet:
    """All photos of a silver version, by split."""

    splits: npt.NDArray[np.object_]
    photos: Photos
    left_out: Mapping[str, CarDamageError] = field(default_factory=dict)
    """Path -> why the photo is not part of the set: PhotoChanged, or Unavailable."""
    preparation: Preparation = Preparation()
    """With which the photos were decoded."""

    @property
    def lost(self) -> dict[str, CarDamageError]:
        """Path -> why a photo of the set could not be read when it was last asked for. Photos on disk are never lost."""
        pixels = self.photos.pixels
        if not isinstance(pixels, PixelCache):
            return {}
        return {
            path: pixels.lost[number] for path, number in zip(self.photos.paths, pixels.rows.tolist(), strict=True) if number in pixels.lost
        }

    def __len__(self) -> int:
        return len(self.photos)

    def settled(self) -> "PhotoSet":
        """The photos that are not lost. The lost ones are left out from now on."""
        there = self.photos.there
        return replace(self, splits=self.splits[there], photos=self.photos.only(there), left_out={**self.left_out, **self.lost})

    def part(self, split: str) -> Photos:
        """The photos of a split, without a copy; none where the split is empty."""
        rows = np.flatnonzero(self.splits == split)
        here = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
        of = self.photos
        pixels = of.pixels.part(here) if isinstance(of.pixels, PixelCache) else of.pixels[here]
        return Photos(pixels, of.labels[here], of.sha256s[here], of.paths[here])


@contextmanager
def load(  # noqa: PLR0917 - what, from where, and how
    rows: pa.Table,
    files: Files,
    limits: Limits,
    classes: Sequence[str],
    workers: int,
    progress: Progress,
    cache_bytes: int,
    clock: Clock,
    may_lose: int = 0,
    preparation: Preparation = Preparation(),
    *,
    ahead: bool = True,
) -> Iterator[PhotoSet]:
    """Read, check and decode every photo, in threads, and keep those on disk that find room there. At the end of the block the file on
    disk is removed, so arrays taken from it must not be used afterwards.

    Args:
        rows: the silver table's `COLUMNS`, in any order; the set is ordered by split, then sha256.
        files: the photos are read through it.
        limits: those of validation, so that what was valid is decodable.
        classes: names, in the order of the class numbers.
        workers: threads, 0 for one a core; which is the most files in memory at once.
        progress: called for the step `photos`.
        cache_bytes: bytes of decoded photos on disk. Test photos are the first ones left out, because a training reads them once or twice.
        clock: waits before photos are read again.
        may_lose: photos that may be left out, from the start or when they are lost in the block.
        preparation: that of the model to be trained.
        ahead: False: read and decode a photo only when it is asked for, for a training that needs few of them.

    Raises:
        PhotoChanged, Unavailable: in the block, for the photo with which more are lost.
        SettingsError: silver has a label that is not among the classes.
    """
    rows = rows.sort_by([("split", "ascending"), ("sha256", "ascending")])
    paths, sha256s = tuple(rows["path"].to_pylist()), tuple(rows["sha256"].to_pylist())
    labels = np.array([_number(label, classes) for label in rows["label"].to_pylist()], dtype=np.int64)
    splits = rows["split"].to_pylist()

    def read(row: int) -> npt.NDArray[np.uint8]:
        return _pixels_of(read_checked(files, paths[row], sha256s[row]), paths[row], limits, preparation)

    patiently = Patience(clock, WAITS)

    with Scratch("photos") as folder, ThreadPoolExecutor(workers or cores(), thread_name_prefix="photos") as pool:
        try:
            kept = _kept(splits if ahead else (), min(cache_bytes, int(_SHARE * shutil.disk_usage(folder).free)) // _PHOTO_BYTES)
            if ahead and len(kept) < len(paths):
                _log.info("%d of %d photos find room on disk (images.cache_bytes); each epoch decodes the others", len(kept), len(paths))
            room = (len(kept), SIZE, SIZE, 3)
            decoded = mapped(folder / "photos.npy", room, np.uint8, "decoded photos", "lower images.cache_bytes")
            slots = _slots(kept, len(paths))

            def keep(row: int) -> None:
                pixels = read(row)
                if slots[row] >= 0:
                    decoded[slots[row]] = pixels

            failed = failures(pool, keep, len(paths), clock, progress) if ahead else {}
            rest = np.array([row for row in range(len(paths)) if row not in failed], np.int64)
            pixels: npt.NDArray[np.uint8] | PixelCache = decoded
            if len(kept) < len(paths) or failed:
                pixels = PixelCache(
                    decoded,
                    slots,
                    lambda row, again: read(row) if again else patiently(read, row),
                    pool,
                    clock,
                    rest,
                    max(0, may_lose - len(failed)),
                )
            photos = Photos(pixels, labels[rest], tuple(sha256s[row] for row in rest), tuple(paths[row] for row in rest))
            left_out = {paths[row]: error for row, error in failed.items()}
            yield PhotoSet(np.array(splits, dtype=object)[rest], photos, left_out, preparation)
        finally:
            pool.shutdown(cancel_futures=True)


def _kept(splits: Sequence[str], most: int) -> npt.NDArray[np.int64]:
    """The rows that find room on disk, in their order."""
    if len(splits) <= most:
        return np.arange(len(splits))
    last = np.array([split == TEST for split in splits])
    return np.sort(np.argsort(last, kind="stable")[:most])


def _slots(kept: npt.NDArray[np.int64], photos: int) -> npt.NDArray[np.int64]:
    slots = np.full(photos, -1)
    slots[kept] = np.arange(len(kept))
    return slots


def _pixels_of(data: bytes, path: str, limits: Limits, preparation: Preparation) -> npt.NDArray[np.uint8]:
    """(224, 224, 3) uint8."""
    try:
        return decode(data, limits, preparation).pixels
    except UnusablePhoto as error:
        raise PhotoChanged(f"{path} was valid, but cannot be decoded ({error}): the limits or the decoder changed{NEXT}") from error


def _number(label: str, classes: Sequence[str]) -> int:
    try:
        return classes.index(label)
    except ValueError as error:
        raise SettingsError(f"the silver table has photos labelled {label}, and labels.classes is {', '.join(classes)}") from error
