"""Makes the baseline of a version: what its photos look like, and how it answers those that it has not learned from.

The flow monitor compares traffic with it. It is a sample, so that it stays small, and half of it are photos with answers, where there are
so many. Photos that the model has learned from are not decoded for it: a training that knows their features has not read them, and then
their sizes are known, and not how bright and how sharp they are. Neither are photos of which an earlier baseline knows it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from car_damage.data.photos.splits import TRAIN
from car_damage.errors import RegistryError, Unavailable
from car_damage.model.answering import Answering, Probabilities, needs_a_person
from car_damage.model.pixels.photos import Photos
from car_damage.model.pixels.pixel_cache import PixelCache
from car_damage.model.run_files import BASELINE_FILE, read_baseline
from car_damage.monitoring.samples import BASELINE
from car_damage.photo.columns import probability_column
from car_damage.photo.signals import Signals, signals
from car_damage.ports import Platform
from car_damage.stages.training.seeing import trainings_with

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


def known_signals(features: str, platform: Platform) -> dict[str, Signals]:
    """sha256 -> the signals of the photos in the baseline of the latest training with these features, which has prepared them in the same
    way; none without features, or without such a training.
    """
    runs = trainings_with(features, platform) if features else []
    with suppress(RegistryError, ValueError):  # it has no baseline, or half of one
        if runs:
            rows = read_baseline(platform.tracking.fetch(runs[0].run_id, BASELINE_FILE))
            if {*Signals._fields} <= {*rows.column_names}:
                known = rows.select(["sha256", *Signals._fields]).drop_null().to_pylist()
                return {row.pop("sha256"): Signals(**row) for row in known}
    return {}


def baseline(  # noqa: PLR0917 - of what, how it is answered, and what is known of it
    trained: Photos,
    answered: Sequence[UnseenPhotos],
    answering: Answering,
    rows: pa.Table,
    classes: Sequence[str],
    known: Mapping[str, Signals] = MappingProxyType({}),
) -> pa.Table:
    """The columns of `BASELINE`, and the probability of each class.

    Args:
        trained: the photos that the model has learned from.
        answered: the other ones.
        answering: says which answers ask for a person.
        rows: sha256, width and height of all of them.
        classes: of the model.
        known: of photos that need not be read: see `known_signals`.

    Raises:
        Unavailable: no photo with an answer is known or can be read.
    """
    held_out = min(sum(len(of.photos) for of in answered), max(SAMPLE // 2, SAMPLE - len(trained)))
    sizes = {sha256: size for sha256, *size in zip(*(rows[name].to_pylist() for name in ("sha256", "width", "height")), strict=True)}
    names = [probability_column(name) for name in classes]
    found: list[dict[str, Any]] = []
    for of, count in zip(answered, _shares([len(of.photos) for of in answered], held_out), strict=True):
        chosen = _chosen(of.photos, count)
        review = needs_a_person(answering.sets(of.probabilities), of.probabilities)
        for row, facts in _facts(of.photos, chosen, sizes, classes, known):
            said = dict(zip(names, of.probabilities[row].tolist(), strict=True))
            found.append({**facts, "split": of.split, "review": bool(review[row]), **said})
    if not found:
        raise Unavailable("none of the photos with answers can be read")
    found += [{**facts, "split": TRAIN} for facts in _known(trained, _chosen(trained, SAMPLE - held_out), sizes, classes)]
    return pa.Table.from_pylist(found, schema=pa.schema([*BASELINE, *(pa.field(name, pa.float64()) for name in names)]))


def _shares(photos: Sequence[int], most: int) -> list[int]:
    return [min(number, -(-number * most // max(1, sum(photos)))) for number in photos]


def _chosen(photos: Photos, most: int) -> npt.NDArray[np.int64]:
    """Rows in their order. A photo's hash decides, which is as good as chance, and most of the same photos are chosen beside new ones."""
    return np.sort(np.argsort(photos.sha256s)[:most])


def _known(photos: Photos, chosen: npt.NDArray[np.int64], sizes: dict[str, list[int]], classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What is known of each chosen photo without reading its file."""
    if not isinstance(photos.pixels, PixelCache):  # decoded already
        yield from (facts for _, facts in _facts(photos, chosen, sizes, classes, {}))
        return
    yield from (_fact(photos, row, sizes, classes) for row in chosen.tolist())


def _fact(photos: Photos, row: int, sizes: dict[str, list[int]], classes: Sequence[str]) -> dict[str, Any]:
    width, height = sizes[photos.sha256s[row]]
    return {"sha256": photos.sha256s[row], "label": classes[photos.labels[row]], "width": width, "height": height}


def _facts(
    photos: Photos, chosen: npt.NDArray[np.int64], sizes: dict[str, list[int]], classes: Sequence[str], known: Mapping[str, Signals]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The row of each chosen photo that is known or can be read, and what is known of it; of no more where many cannot be read."""
    is_known = np.array([photos.sha256s[row] in known for row in chosen.tolist()], bool)
    for row in chosen[is_known].tolist():
        yield row, _fact(photos, row, sizes, classes) | known[photos.sha256s[row]]._asdict()
    unknown = chosen[~is_known]
    for at in range(0, len(unknown), _CHUNK):
        chunk = unknown[at : at + _CHUNK]
        pixels, there = photos.look(chunk)
        if not there.any():
            return  # each chunk would be waited for
        for row, picture in zip(chunk[there].tolist(), pixels, strict=True):
            yield row, _fact(photos, row, sizes, classes) | signals(picture)._asdict()
