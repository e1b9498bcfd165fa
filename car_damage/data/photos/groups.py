"""Groups of photos in which a model may be worse than its average tells: those of one size class, and those of one source.

Pure. A group's name is legal as the name of an MLflow metric, and the same wherever the group is named. Every photo is in one size class.
Where the label is the name of a folder, the first folder below that one is the photo's source: `minor/dealer_a/1.jpg` and
`major/Dealer_A/2026/2.jpg` are both of the group source_dealer_a.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from car_damage.data.photos.labels import Labeller
from car_damage.photo.limits import SIZE
from car_damage.settings import Labels

MIN_PHOTOS = 30
"""A smaller group has no score, because it would say little: the 95 % interval of a share of 30 photos reaches up to 18 points to each
side, and of 10 photos 31 points (normal approximation: 1.96 x sqrt(0.25 / n))."""

_SIZES = ((0, "thumbnail"), (2, "medium"), (8, "large"))
"""Where each size class begins, in pixels of the photo for each pixel that a network sees. Thumbnails have hardly more detail than the
network sees: those of search engines have 1 pixel for each. Pictures of web pages (640 x 480) have about 6. Large photos, from about
730 x 550 on, look sharper than the others when they are reduced, and those of phones and cameras are among them."""
SIZE_STARTS = tuple(share * SIZE * SIZE for share, _ in _SIZES)
"""Width times height from which each size class begins."""
_LONGEST = 40
"""Characters of a source's name."""

Rows = npt.NDArray[np.int64]
"""Row numbers, ascending."""


@dataclass(frozen=True)
class Group:
    """Some of n photos that have something in common."""

    name: str
    """Lower-case letters, digits, _ and -; at most 60 characters."""
    what: str
    """What the photos have in common, in words. It may contain a folder's name as a person wrote it."""
    rows: Rows
    """(m,) which of the n photos are in the group."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_large_enough(self) -> bool:
        """Whether a score of the group says something."""
        return len(self) >= MIN_PHOTOS

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Group":
        """The group among some of the photos: `chosen` is (n,)."""
        return Group(self.name, self.what, (np.cumsum(chosen) - 1)[self.rows[chosen[self.rows]]])


def groups_of(photos: pa.Table, labels: Labels, landing_folder: str) -> tuple[Group, ...]:
    """All groups of these photos, however small: size classes from the smallest, then sources by name.

    Args:
        photos: path, width and height of n photos.
        labels: says which folder a label comes from.
        landing_folder: the present one. Photos of earlier ones have sources, too.
    """
    return (*_by_size(photos), *(_by_source(photos, Labeller(labels, landing_folder)) if labels.source == "folder" else ()))


def size_classes(pixels: npt.NDArray[np.int64]) -> Rows:
    """(n,) the number of each photo's size class, from 0, by its width times height, (n,)."""
    return np.asarray(np.searchsorted(SIZE_STARTS, pixels, side="right") - 1)


def _by_size(photos: pa.Table) -> Iterator[Group]:
    area = np.asarray(photos["width"]) * np.asarray(photos["height"])
    starts, of = SIZE_STARTS, size_classes(area)
    for number, (_, name) in enumerate(_SIZES):
        below = f" to {starts[number + 1] - 1:,}" if number + 1 < len(starts) else " and more"
        what = f"{starts[number]:,}{below} pixels"
        if len(rows := np.flatnonzero(of == number)):
            yield Group(f"size_{name}", what, rows)


def _by_source(photos: pa.Table, labeller: Labeller) -> Iterator[Group]:
    rows: dict[str, list[int]] = {}
    for row, source in enumerate(labeller.sources(photos["path"].to_pylist())):
        if source is not None:
            rows.setdefault(source, []).append(row)
    for source, some in sorted(rows.items()):
        yield Group(f"source_{_legal(source)}", f"folder {source}", np.array(some, np.int64))


def _legal(source: str) -> str:
    """The source's name in legal characters. One that has others, or is too long, ends in a part of its hash, so that no two become one."""
    letters = unicodedata.normalize("NFKD", source).encode("ascii", "ignore").decode()
    legal = re.sub(r"[^a-z0-9_-]+", "_", letters)[:_LONGEST]
    return legal if legal == source else f"{legal}_{hashlib.sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
