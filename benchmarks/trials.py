"""Recipes for a transfer model with a frozen backbone, compared on real photos. Writes the table of docs/model.md.

Every recipe is measured by cross-validation over train/, with three seeds and near-duplicates in the same fold. val/ is predicted
once by a head that was fitted to all of train/, and no recipe was chosen by it. The ratio is that to the first recipe.
`python -m benchmarks trials` takes a quarter of an hour of one core; features are kept in build/trials.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import real_photos
from benchmarks.trials_features import LAYERS, WEIGHTS, WIDTHS, Features, Library, features, library
from benchmarks.trials_heads import Kernel, Linear
from car_damage.model.quality.evaluation import macro_f1

SEEDS = (0, 1, 2)
FOLDS = 5
RESAMPLES = 400
SIZES = ("thumbnails", "squares", "large photos")
PAGE = Path("docs/model.md")
_BEGIN, _END = "<!-- trials: written by python -m benchmarks trials -->", "<!-- end of trials -->"
_FOUR = ("common", "mirrored", "crop", "crop-mirrored")

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """A recipe."""

    name: str
    views: tuple[str, ...] = _FOUR
    layers: int = 3
    """How many of LAYERS."""
    rows: bool = False
    """Each view is a row of its own in training. Otherwise a photo has the mean of its views."""
    head: Linear | Kernel = field(default_factory=Linear)
    share: float = 1.0
    """Of the photos of each training."""
    everything: bool = False
    """Cross-validation over train/ and val/."""


BASELINE = Trial("squashed; output; softmax", ("squashed",), 1, head=Linear(ordinal=False))

TRIALS = (
    BASELINE,
    Trial("squashed; output; two ordered outputs from here on", ("squashed",), 1),
    Trial("squashed; output and two earlier layers from here on", ("squashed",)),
    Trial("common resolution from here on", ("common",)),
    Trial("288 x 288 pixels", ("common-288",)),
    Trial("the mean of four views"),
    Trial("four views; each view a row", rows=True),
    Trial("four views; softmax", head=Linear(ordinal=False)),
    Trial("four views; C 0.01", head=Linear(strength=0.01)),
    Trial("four views; classes weighted", head=Linear(weights="balanced")),
    Trial("four views; Gaussian kernel", head=Kernel()),
    Trial("**chosen: four views; output and five earlier layers**", layers=len(LAYERS)),
    Trial("chosen; 25 % of the photos", layers=len(LAYERS), share=0.25),
    Trial("chosen; 50 % of the photos", layers=len(LAYERS), share=0.5),
    Trial("chosen; 75 % of the photos", layers=len(LAYERS), share=0.75),
    Trial("chosen; train/ and val/ together", layers=len(LAYERS), everything=True),
)


@dataclass(frozen=True)
class Outcome:
    """How a recipe did."""

    predicted: npt.NDArray[np.int64]
    """(seeds, photos): the classes out of fold. Photos that no fold had: 0."""
    val: float
    """Macro-F1 on val/."""
    seconds: float
    """Of the processor, for features and all fits."""
    measured: Labels
    """The photos of the cross-validation."""

    def score(self, labels: Labels, rows: Labels) -> float:
        return float(np.mean([macro_f1(labels[rows], of_seed[rows], 3) for of_seed in self.predicted]))


def run() -> list[dict[str, Any]]:
    place = real_photos.folder()
    if place is None or not (place.parent / WEIGHTS).is_file():
        print(f"trials are skipped: {real_photos.FOLDER} or {WEIGHTS} beside it is not there")
        return []
    photos = library(place)
    base = outcome(BASELINE, photos)
    found = {trial.name: base if trial is BASELINE else outcome(trial, photos) for trial in TRIALS}
    _write([_line(name, one, base, photos) for name, one in found.items()])
    start = base.score(photos.labels, photos.train)
    return [_row(name, one.score(photos.labels, one.measured), start) for name, one in found.items()]


def outcome(trial: Trial, photos: Library) -> Outcome:
    measured = np.arange(len(photos.labels)) if trial.everything else photos.train
    width = sum(WIDTHS[: trial.layers])
    views, seconds = zip(*(features(photos, view) for view in trial.views), strict=True)
    views = tuple(view[:, :width] for view in views)
    inputs = views if trial.rows else (np.mean(views, axis=0),)
    began = time.process_time()
    predicted = np.zeros((len(SEEDS), len(photos.labels)), np.int64)
    for seed in SEEDS:
        for train, test in _folds(photos, measured, seed):
            kept = np.random.default_rng(seed).permutation(train)[: round(len(train) * trial.share)]
            predicted[seed, test] = _predict(trial, inputs, photos.labels, kept, test)
    val = _predict(trial, inputs, photos.labels, photos.train, photos.val)
    return Outcome(predicted, macro_f1(photos.labels[photos.val], val, 3), sum(seconds) + time.process_time() - began, measured)


def _folds(photos: Library, measured: Labels, seed: int) -> Iterator[tuple[Labels, Labels]]:
    from sklearn.model_selection import StratifiedGroupKFold

    parts = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in parts.split(measured, photos.labels[measured], photos.near[measured]):
        yield measured[train], measured[test]


def _predict(trial: Trial, inputs: tuple[Features, ...], labels: Labels, train: Labels, test: Labels) -> Labels:
    head = trial.head.fit(np.concatenate([rows[train] for rows in inputs]), np.tile(labels[train], len(inputs)))
    answers = np.mean([head(rows[test]) for rows in inputs], axis=0)
    return np.asarray(answers.argmax(axis=1), np.int64)


def _line(name: str, one: Outcome, base: Outcome, photos: Library) -> str:
    labels, rng = photos.labels, np.random.default_rng(0)
    resamples = [rng.choice(one.measured, len(one.measured)) for _ in range(RESAMPLES)]
    scores = np.array([one.score(labels, rows) for rows in resamples])
    gain = "" if one is base or len(one.measured) != len(base.measured) else _gain(scores, one, base, labels, resamples)
    groups = [one.score(labels, one.measured[photos.size_class[one.measured] == size]) for size in range(len(SIZES))]
    low, high = np.percentile(scores, [2.5, 97.5])
    val = "" if len(one.measured) != len(base.measured) or "%" in name else f"{one.val:.3f}"
    shown = " | ".join(f"{group:.2f}" for group in groups)
    mean = one.score(labels, one.measured)
    return f"| {name} | {mean:.3f} ({low:.3f} to {high:.3f}) | {gain} | {val} | {shown} | {one.seconds / 60:.1f} |"


def _gain(scores: npt.NDArray[np.float64], one: Outcome, base: Outcome, labels: Labels, resamples: list[Labels]) -> str:
    """The gain over the baseline, with the interval of paired resamples."""
    gains = scores - np.array([base.score(labels, rows) for rows in resamples])
    low, high = np.percentile(gains, [2.5, 97.5])
    return f"{one.score(labels, one.measured) - base.score(labels, one.measured):+.3f} ({low:+.3f} to {high:+.3f})"


def _row(name: str, value: float, base: float) -> dict[str, Any]:
    return {"name": name.strip("*"), "value": value, "unit": "macro-F1", "baseline": f"{BASELINE.name}: {base:.3f}", "ratio": value / base}


def _write(lines: list[str]) -> None:
    header = f"| recipe | cross-validation | gain | val | {' | '.join(SIZES)} | processor minutes |"
    table = "\n".join([header, "|---|---|---|---:|---:|---:|---:|---:|", *lines])
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{rest.partition(_END)[2]}")
