"""What the lower part of a backbone makes of each photo and view: computed once, and kept on disk while a training lasts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from car_damage.model.pixels.mapped import mapped
from car_damage.model.pixels.photos import Photos
from car_damage.stage import Progress

if TYPE_CHECKING:
    import keras

BATCH = 32
"""Photos in one call of the lower part."""

Rows = npt.NDArray[np.int64]
View = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
"""(n, 224, 224, 3) uint8 to the same."""


@dataclass(frozen=True)
class Maps:
    """The outputs of the lower part for n photos in all views."""

    parts: tuple[npt.NDArray[np.float16], ...]
    """Each (n, views, ...) float16: half the room, for a rounding of 0.05 %. Views of the training."""
    there: npt.NDArray[np.bool_]
    """(n,) which photos could be read."""

    @property
    def views(self) -> int:
        """Views of each photo; the first one is the photo as the served model gets it."""
        return int(self.parts[0].shape[1])

    def of(self, rows: Rows, views: Rows | int = 0) -> list[npt.NDArray[np.float32]]:
        """The inputs of the upper part: of each of these photos one view, each (m, ...) float32."""
        chosen = np.broadcast_to(views, rows.shape)
        return [np.asarray(part[rows, chosen], np.float32) for part in self.parts]


def maps_of(lower: "keras.Model", photos: Photos, views: Sequence[View], folder: Path, progress: Progress) -> Maps:
    """Compute the maps of these photos.

    Args:
        lower: see `car_damage.model.networks.tuning.cutting.Cut`.
        photos: n photos.
        views: the first one is the photo as it is.
        folder: where the maps are kept.
        progress: called for the step `features`.

    Raises:
        Unavailable: the disk has no room for them, or too many photos are lost.
        PhotoChanged: too many photos are lost.
    """
    shapes = [(len(photos), len(views), *output.shape[1:]) for output in lower.outputs]
    without = "use fewer views, or a later layer as training.fine_tune_from"
    parts = tuple(mapped(folder / f"{number}.npy", shape, np.float16, "maps", without) for number, shape in enumerate(shapes))
    there = np.zeros(len(photos), bool)
    for at in range(0, len(photos), BATCH):
        pixels, readable = photos.read(slice(at, at + BATCH))
        there[at : at + BATCH] = readable
        if len(pixels):
            _keep(lower, pixels, views, parts, at + np.flatnonzero(readable))
        progress("features", at, len(photos), f"maps of the layer from which on the backbone learns, {len(views)} views")
    return Maps(parts, there)


def _keep(
    lower: "keras.Model", pixels: npt.NDArray[np.uint8], views: Sequence[View], parts: Sequence[npt.NDArray[np.float16]], places: Rows
) -> None:
    import keras

    for number, view in enumerate(views):
        outputs = keras.tree.flatten(lower.predict_on_batch(view(pixels)))
        for part, values in zip(parts, outputs, strict=True):
            part[places, number] = values
