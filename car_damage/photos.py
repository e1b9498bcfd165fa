"""The photos of one silver version, decoded once and kept on disk for as long as a training lasts.

Every epoch reads them again, so they lie decoded in a memory-mapped file of a temporary folder: 150,528 bytes a
photo on disk, and in memory only what the operating system finds room for. Each photo is read once, and must be
the very photo that was validated: one with other bytes stops the training by name.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from car_damage.engines.folder import cores
from car_damage.errors import PhotoChanged, SettingsError, Unavailable, UnusablePhoto
from car_damage.images import SIZE, Limits, decode
from car_damage.scratch import Scratch

if TYPE_CHECKING:
    import pyarrow as pa

    from car_damage.pipeline import Progress
    from car_damage.ports import Files

COLUMNS = ("path", "label", "sha256", "split")
"""What is read of the silver table."""

_NEXT = "; run the pipeline again: validation takes up what is there by then"
_TOLD = 50
"""Progress is told about so many times."""


@dataclass(frozen=True)
class Photos:
    """Some photos, in the order of their rows."""

    pixels: npt.NDArray[np.uint8]
    """(n, 224, 224, 3) uint8, RGB; a view of the file on disk."""
    labels: npt.NDArray[np.int64]
    """(n,) class numbers."""
    sha256s: tuple[str, ...]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


class PhotoSet:
    """All photos of a silver version, by split. A context manager: leaving it removes the file on disk.

    Arrays taken from it must not be used afterwards.
    """

    def __init__(self, splits: Sequence[str], photos: Photos, folder: Scratch) -> None:
        self._splits = np.array(splits, dtype=object)
        self._photos = photos
        self._folder = folder

    def __len__(self) -> int:
        return len(self._photos)

    def part(self, split: str) -> Photos:
        """The photos of a split, without a copy; none where the split is empty."""
        rows = np.flatnonzero(self._splits == split)
        here = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
        of = self._photos
        return Photos(of.pixels[here], of.labels[here], of.sha256s[here], of.paths[here])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file on disk."""
        self._folder.close()


def load(  # noqa: PLR0917 - what, from where, and how
    rows: "pa.Table",
    files: "Files",
    limits: Limits,
    classes: Sequence[str],
    workers: int,
    progress: "Progress",
) -> PhotoSet:
    """Read, check and decode every photo once, in threads.

    Args:
        rows: the silver table's `COLUMNS`, in any order; the set is ordered by split, then sha256.
        files: the photos are read through it.
        limits: those of validation, so that what was valid is decodable.
        classes: names, in the order of the class numbers.
        workers: threads, 0 for one a core; at most so many files are in memory at once.
        progress: told about the step `photos`.

    Raises:
        PhotoChanged: a photo is gone, has other bytes than silver says, or cannot be decoded any more.
        Unavailable: a photo cannot be read, for a reason that may pass.
        SettingsError: silver has a label that is not among the classes.
    """
    rows = rows.sort_by([("split", "ascending"), ("sha256", "ascending")])
    paths, sha256s = tuple(rows["path"].to_pylist()), tuple(rows["sha256"].to_pylist())
    labels = np.array([_number(label, classes) for label in rows["label"].to_pylist()], dtype=np.int64)
    folder = Scratch("photos")
    try:
        pixels = _pixels(folder.path, len(paths))

        def read(row: int) -> None:
            pixels[row] = _pixels_of(read_checked(files, paths[row], sha256s[row]), paths[row], limits)

        with ThreadPoolExecutor(workers or cores(), thread_name_prefix="photos") as pool:
            try:
                for row, _ in enumerate(pool.map(read, range(len(paths)))):
                    if (row + 1) % max(1, len(paths) // _TOLD) == 0 or row + 1 == len(paths):
                        progress("photos", row + 1, len(paths))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except BaseException:
        folder.close()
        raise
    return PhotoSet(rows["split"].to_pylist(), Photos(pixels, labels, sha256s, paths), folder)


def _pixels(folder: Path, photos: int) -> npt.NDArray[np.uint8]:
    shape = (photos, SIZE, SIZE, 3)
    if not photos:
        return np.zeros(shape, np.uint8)  # an empty file cannot be mapped
    return np.lib.format.open_memmap(folder / "photos.npy", mode="w+", dtype=np.uint8, shape=shape)


def read_checked(files: "Files", path: str, sha256: str) -> bytes:
    """A photo's bytes, if they are those that were validated.

    Args:
        files: read from.
        path: of the photo.
        sha256: of its content when it was validated, in hexadecimal.

    Raises:
        PhotoChanged: it is gone, or has other bytes.
        Unavailable: it cannot be read, for a reason that may pass.
    """
    try:
        data = files.read(path)
    except Unavailable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise PhotoChanged(f"{path} was validated but is gone{_NEXT}") from error
        raise
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PhotoChanged(f"{path} has other bytes than when it was validated{_NEXT}")
    return data


def _pixels_of(data: bytes, path: str, limits: Limits) -> npt.NDArray[np.uint8]:
    """(224, 224, 3) uint8."""
    try:
        return decode(data, limits).pixels
    except UnusablePhoto as error:
        raise PhotoChanged(
            f"{path} was valid and cannot be decoded any more ({error}): the limits or the decoder changed{_NEXT}"
        ) from error


def _number(label: str, classes: Sequence[str]) -> int:
    try:
        return classes.index(label)
    except ValueError as error:
        raise SettingsError(f"the silver table has photos labelled {label}, and labels.classes is {', '.join(classes)}") from error
