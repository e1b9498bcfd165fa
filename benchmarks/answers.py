"""What calibration and sets of classes are worth on real photos, by the recipe of the service. Writes the table of docs/model.md.

The head is fitted to 85 % of train/, calibration and thresholds to the other 15 %, near-duplicates on the same side. val/ is used for
nothing but the figures. Then the photos of both that no head has seen are divided at random, many times, to see how the coverage of each
class varies. The baseline of each figure is the same network as it was before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import real_features, real_photos
from benchmarks.real_features import PhotoFacts
from car_damage.model.networks import heads
from car_damage.model.quality.answers import AnswerQuality, NetworkOutput, fitted, quality_of
from car_damage.promotion.evidence import costs
from car_damage.settings import Answers, Promotion

CLASSES = ("minor", "moderate", "major")
COVERAGES = (0.8, 0.85, 0.9, 0.95)
DRAWS = 200
PAGE = Path("docs/model.md")
_BEGIN, _END = "<!-- answers: written by python -m benchmarks answers -->", "<!-- end of answers -->"


@dataclass(frozen=True)
class Network:
    """What the network says about photos that its head has not learned from."""

    head: heads.Head
    validation: NetworkOutput
    test: NetworkOutput


def run() -> list[dict[str, Any]]:
    place = real_photos.folder()
    if place is None:
        print(f"no photos at {real_photos.FOLDER}: skipped")
        return []
    network = said(place)
    prices = costs(CLASSES, Promotion().costs)
    found = [
        quality_of(network.test, fitted(network.validation, Answers(coverage=coverage), prices), prices, Answers().review_cost)
        for coverage in COVERAGES
    ]
    _write(found, coverage_of_draws(network))
    before, after = found[0].before.error, found[0].after.error
    return [
        {
            "name": "answers: calibration error",
            "value": after,
            "unit": "",
            "baseline": f"not calibrated: {before:.3f}",
            "ratio": after / before,
        }
    ]


@cache
def said(place: Path) -> Network:
    """By a head that learns like in the stage."""
    real = real_features.of(place)
    photos, train, val = real.photos, real.train, real.val
    labels, near = photos.labels[photos.train], photos.near[photos.train]
    held, apart = _held(near), ~np.isin(photos.near[photos.val], near)
    head = heads.fit(train.features[~held], labels[~held], near[~held], len(CLASSES), real.settings.head, real.settings.seed).head
    return Network(head, _said(head, train, labels, held), _said(head, val, photos.labels[photos.val], apart))


def coverage_of_draws(network: Network, coverage: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """(classes,) the mean coverage of each class over random halves of the photos, fitted to one and measured on the other, and the same
    as expected.
    """
    parts = (network.validation, network.test)
    labels, probabilities, pixels = (np.concatenate([getattr(of, name) for of in parts]) for name in ("labels", "probabilities", "pixels"))
    prices, random = costs(CLASSES, Promotion().costs), np.random.default_rng(0)
    covered, asked = np.zeros((DRAWS, len(CLASSES))), np.zeros((DRAWS, len(CLASSES)))
    for draw in range(DRAWS):
        first = random.random(len(labels)) < 0.5
        one, other = (NetworkOutput(labels[half], probabilities[half], pixels[half]) for half in (first, ~first))
        covered[draw] = quality_of(other, fitted(one, Answers(coverage=coverage), prices), prices, 1.0).chosen.covered
        photos = np.bincount(one.labels, minlength=len(CLASSES)) + 1
        asked[draw] = np.ceil(photos * coverage) / photos
    return covered.mean(axis=0), asked.mean(axis=0)


def _held(near: npt.NDArray[np.int64], share: float = 0.15) -> npt.NDArray[np.bool_]:
    """(n,) which photos of train/ the head does not learn from; near-duplicates are on the same side."""
    groups = np.unique(near)
    return np.isin(near, np.random.default_rng(0).permutation(groups)[: round(share * len(groups))])


def _said(head: heads.Head, seen: PhotoFacts, labels: npt.NDArray[np.int64], rows: npt.NDArray[np.bool_]) -> NetworkOutput:
    return NetworkOutput(labels[rows], head.probabilities(seen.plain[rows]), (seen.width * seen.height)[rows])


def _lines(found: list[AnswerQuality], draws: tuple[np.ndarray, np.ndarray]) -> Iterator[str]:
    first = found[0]
    yield f"Calibration error on {first.before.photos.sum()} test photos: {first.before.error:.3f} before, {first.after.error:.3f} after."
    yield ""
    of_classes = " | ".join(f"{name} covered" for name in CLASSES)
    yield f"| coverage asked for | {of_classes} | answered without a person | accuracy of those | cost a photo |"
    yield "|---:|" + "---:|" * (len(CLASSES) + 3)
    for one in (quality.chosen for quality in found):
        covered = " | ".join(f"{share:.3f}" for share in one.covered if share is not None)
        yield f"| {one.coverage:g} | {covered} | {1 - one.review:.1%} | {one.accuracy or 0:.3f} | {one.cost:.3f} |"
    yield ""
    covered, asked = (", ".join(f"{name} {share:.3f}" for name, share in zip(CLASSES, of, strict=True)) for of in draws)
    yield f"Over {DRAWS} random halves of the validation and test photos, with 0.9 asked for: {covered}. Expected: {asked}."


def _write(found: list[AnswerQuality], draws: tuple[np.ndarray, np.ndarray]) -> None:
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    lines = "\n".join(_lines(found, draws))
    PAGE.write_text(f"{before}{_BEGIN}\n\n{lines}\n\n{_END}{rest.partition(_END)[2]}")
