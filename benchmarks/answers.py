"""What calibration and sets of classes are worth on real photos, by the recipe of the service. Writes the table of docs/model.md.

The head is fitted to 85 % of train/, calibration and thresholds to the other 15 %, near-duplicates on the same side. val/ is used for
nothing but the figures. Then the photos of both that no head has seen are divided at random, many times, to see how the coverage of each
class varies. The baseline of each figure is the same network as it was before. What the network says is kept in build/answers.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import real_photos
from benchmarks.trials_features import Library, library
from car_damage.adapters.clock import SystemClock
from car_damage.adapters.folder import Folder
from car_damage.data.photos.splits import TEST, TRAIN, VALIDATION
from car_damage.machine import cores
from car_damage.model.networks import backbone, heads
from car_damage.model.networks.seer import Seer
from car_damage.model.networks.views import chosen
from car_damage.model.pixels.photos import Photos, load
from car_damage.model.pixels.resolution import learn
from car_damage.model.quality.answers import AnswerQuality, Said, fitted, quality_of
from car_damage.photo.limits import SIZE, Limits
from car_damage.photo.preparation import Preparation
from car_damage.promotion.evidence import costs
from car_damage.settings import Answers, Promotion, Training
from car_damage.stage import silent

CLASSES = ("minor", "moderate", "major")
COVERAGES = (0.8, 0.85, 0.9, 0.95)
KEPT = Path("build/answers/said.npz")
DRAWS = 200
PAGE = Path("docs/model.md")
_BEGIN, _END = "<!-- answers: written by python -m benchmarks answers -->", "<!-- end of answers -->"
_CHUNK = 64


@dataclass(frozen=True)
class Network:
    """What the network says about photos that its head has not seen."""

    validation: Said
    test: Said


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


def said(place: Path) -> Network:
    """From build/answers, or by a training."""
    if not KEPT.exists():
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        trained = _trained(library(place))
        parts = {f"{part}_{name}": value for part, of in vars(trained).items() for name, value in vars(of).items()}
        np.savez(KEPT, **parts)
    with np.load(KEPT) as kept:
        return Network(
            *(Said(*(kept[f"{part}_{name}"] for name in ("labels", "probabilities", "pixels"))) for part in ("validation", "test"))
        )


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
        one, other = (Said(labels[half], probabilities[half], pixels[half]) for half in (first, ~first))
        covered[draw] = quality_of(other, fitted(one, Answers(coverage=coverage), prices), prices, 1.0).chosen.covered
        photos = np.bincount(one.labels, minlength=len(CLASSES)) + 1
        asked[draw] = np.ceil(photos * coverage) / photos
    return covered.mean(axis=0), asked.mean(axis=0)


def _trained(photos: Library) -> Network:
    """Train like the stage does."""
    split = _splits(photos)
    files = [str(file) for file in photos.files]
    sha256s = [hashlib.sha256(file.read_bytes()).hexdigest() for file in photos.files]
    label = [CLASSES[number] for number in photos.labels]
    width, height = photos.sizes.T.tolist()
    rows = pa.table({"path": files, "sha256": sha256s, "label": label, "split": split.tolist(), "width": width, "height": height})
    settings = Training(network="transfer", backbone=str(photos.weights), layers=("block10_add", "block14_add"), resolution="common")
    preparation = learn(rows, Folder(), 0, SystemClock())
    seeing = backbone.load(settings, Folder(), preparation).exported([], lambda: np.zeros((0, SIZE, SIZE, 3), np.uint8))
    everything = (rows, Folder(), Limits(), CLASSES, 0, silent, 1 << 40, SystemClock(), 0, preparation)
    near, area = (dict(zip(sha256s, values.tolist(), strict=True)) for values in (photos.near, photos.sizes.prod(axis=1)))
    with load(*everything) as loaded:
        learned = loaded.part(TRAIN)
        groups = np.array([near[sha256] for sha256 in learned.sha256s])
        features = _features(learned, chosen(settings), seeing)
        head = heads.fit(features, learned.labels, groups, len(CLASSES), settings.head, settings.seed).head
        return Network(*(_said(loaded.part(part), head, seeing, area) for part in (VALIDATION, TEST)))


def _said(photos: Photos, head: heads.Head, seeing: backbone.Backbone, area: dict[str, int]) -> Said:
    probabilities = head.probabilities(_features(photos, ("plain",), seeing)[:, 0])
    return Said(photos.labels, probabilities, np.array([area[sha256] for sha256 in photos.sha256s]))


def _features(photos: Photos, views: tuple[str, ...], seeing: backbone.Backbone) -> np.ndarray:
    """What the backbone sees: (n, views, d)."""
    if seeing.onnx is None:
        raise RuntimeError(f"the backbone cannot be exported: {seeing.why_keras}")
    seer, rows = Seer(seeing.onnx, Limits(), Preparation(), views), np.arange(len(photos))
    with ThreadPoolExecutor(cores()) as pool:  # each photo by one thread
        return np.concatenate(list(pool.map(lambda at: seer.of(photos.read(rows[at : at + _CHUNK])[0]), range(0, len(photos), _CHUNK))))


def _splits(photos: Library, share: float = 0.15) -> np.ndarray:
    """train/ in two parts, near-duplicates in one of them; val/ as the test photos, without those that resemble one of train/."""
    split = np.full(len(photos.labels), TEST, object)
    groups = np.unique(photos.near[photos.train])
    apart = np.random.default_rng(0).permutation(groups)[: round(share * len(groups))]
    split[photos.train] = np.where(np.isin(photos.near[photos.train], apart), VALIDATION, TRAIN)
    split[(split == TEST) & np.isin(photos.near, groups)] = "none"
    return split


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
