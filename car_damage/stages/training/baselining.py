"""Makes the baseline of a version: what its photos look like, and how it answers those that it has not learned from.

The flow monitor compares traffic with it. It is a sample, so that it stays small, and half of it are photos with answers, where there are
so many. Photos that the model has learned from are not decoded for it: a training that knows their features has not read them, and then
their sizes are known, and not how bright and how sharp they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from car_damage.data.photos.splits import TRAIN
from car_damage.errors import Unavailable
from car_damage.model.answering import Answering, Probabilities, needs_a_person
from car_damage.model.pixels.photos import Photos
from car_damage.model.pixels.pixel_cache import PixelCache
from car_damage.monitoring.samples import BASELINE
from car_damage.photo.columns import probability_column
from car_damage.photo.signals import signals

SAMPLE = 2_000
"""Photos of a baseline, at most: about 150 kB. Those with answers are decoded for it, where the training has not done so, in ten seconds of
two cores."""
_CHUNK = 256
"""Photos that are in memory at once."""


@dataclass(frozen=True)
class UnseenPhotos:
    """Photos of a split that the model has not learned from."""

    split: str
    photos: Photos
    probabilities: Probabilities
    """(n, classes), calibrated."""


def baseline(trained: Photos, answered: Sequence[UnseenPhotos], answering: Answering, rows: pa.Table, classes: Sequence[str]) -> pa.Table:
    """The columns of `BASELINE`, and the probability of each class.

    Args:
        trained: the photos that the model has learned from.
        answered: the other ones.
        answering: says which answers ask for a person.
        rows: sha256, width and height of all of them.
        classes: of the model.
    """
    held_out = min(sum(len(of.photos) for of in answered), max(SAMPLE // 2, SAMPLE - len(trained)))
    sizes = {sha256: size for sha256, *size in zip(*(rows[name].to_pylist() for name in ("sha256", "width", "height")), strict=True)}
    names = [probability_column(name) for name in classes]
    found: list[dict[str, Any]] = []
    for of, count in zip(answered, _shares([len(of.photos) for of in answered], held_out), strict=True):
        chosen = _chosen(len(of.photos), count)
        review = needs_a_person(answering.sets(of.probabilities), of.probabilities)
        for row, facts in _facts(of.photos, chosen, sizes, classes):
            said = dict(zip(names, of.probabilities[row].tolist(), strict=True))
            found.append({**facts, "split": of.split, "review": bool(review[row]), **said})
    found += [{**facts, "split": TRAIN} for facts in _known(trained, _chosen(len(trained), SAMPLE - held_out), sizes, classes)]
    return pa.Table.from_pylist(found, schema=pa.schema([*BASELINE, *(pa.field(name, pa.float64()) for name in names)]))


def _shares(photos: Sequence[int], most: int) -> list[int]:
    return [min(number, -(-number * most // max(1, sum(photos)))) for number in photos]


def _chosen(photos: int, most: int) -> npt.NDArray[np.int64]:
    """Rows at random, in their order; the same ones each time."""
    return np.sort(np.random.default_rng(0).permutation(photos)[:most])


def _known(photos: Photos, chosen: npt.NDArray[np.int64], sizes: dict[str, list[int]], classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What is known of each chosen photo without reading its file."""
    if not isinstance(photos.pixels, PixelCache):  # decoded already
        yield from (facts for _, facts in _facts(photos, chosen, sizes, classes))
        return
    yield from (_fact(photos, row, sizes, classes) for row in chosen.tolist())


def _fact(photos: Photos, row: int, sizes: dict[str, list[int]], classes: Sequence[str]) -> dict[str, Any]:
    width, height = sizes[photos.sha256s[row]]
    return {"sha256": photos.sha256s[row], "label": classes[photos.labels[row]], "width": width, "height": height}


def _facts(
    photos: Photos, chosen: npt.NDArray[np.int64], sizes: dict[str, list[int]], classes: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The row of each chosen photo that can be read, and what is known of it."""
    for at in range(0, len(chosen), _CHUNK):
        chunk = chosen[at : at + _CHUNK]
        pixels, there = photos.look(chunk)
        if not there.any():
            raise Unavailable(f"none of {len(chunk)} photos can be read, such as {photos.paths[chunk[0]]}")
        for row, picture in zip(chunk[there].tolist(), pixels, strict=True):
            yield row, _fact(photos, row, sizes, classes) | signals(picture)._asdict()
