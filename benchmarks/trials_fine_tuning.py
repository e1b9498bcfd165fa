"""Fine-tuning compared with the frozen head in the same folds, on real photos. Writes its section of docs/model.md.

The recipe is the service's own, with the settings of each row. `python -m benchmarks trials_fine_tuning` takes half an hour of one core,
most of it for the steps that learn; maps and features are kept in build/trials.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from benchmarks import real_photos
from benchmarks.trials_features import KEPT, NEAR, WEIGHTS
from car_damage.adapters.folder import Folder
from car_damage.data.photos.near_duplicates import components, unsigned
from car_damage.model.networks import backbone, heads
from car_damage.model.networks.augmentation import wide
from car_damage.model.networks.tuning import cutting, fine_tuning
from car_damage.model.networks.tuning.learner import Learner
from car_damage.model.networks.tuning.maps import Maps, maps_of
from car_damage.model.networks.views import VIEWS, chosen
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.evaluation import macro_f1
from car_damage.photo.decoder import perceptual_hash
from car_damage.settings import Training
from car_damage.stage import silent

if TYPE_CHECKING:
    import keras

LAYERS = ("block10_add", "block14_add")
SEEDS = (20,)
COPIES = 4
_SHOWN = [VIEWS[view] for view in chosen(Training())]
"""The views that a training learns from."""
_NONE = "0.000 (no epoch is chosen)"
PAGE = Path("docs/model.md")
_BEGIN, _END = "<!-- fine-tuning: written by python -m benchmarks trials_fine_tuning -->", "<!-- end of fine-tuning -->"


@dataclass(frozen=True)
class Trial:
    """A recipe."""

    name: str
    layer: str = "block14_add"
    changes: Mapping[str, float] = field(default_factory=dict)
    """Settings of training that differ from the defaults."""
    folds: int = heads.FOLDS
    """The first ones of the head's folds, so many. Photos of the others are in every training, and are not asked."""
    copies: int = COPIES
    """Wide views of a photo, beside those that a training learns from."""


_SLOWER = {"fine_tune_rate": 3e-5, "fine_tune_epochs": 3}
_SMOOTH = {"fine_tune_mixup": 0.2, "fine_tune_smoothing": 0.1}

TRIALS = (
    Trial("from block14_add on, five folds"),
    Trial("the same, mixup 0.4 and label smoothing 0.1, five folds", changes={**_SMOOTH, "fine_tune_mixup": 0.4}),
    Trial("from block14_add on", folds=2),
    Trial("from block14_add on, rate 0.00003, 3 epochs", changes=_SLOWER, folds=2),
    Trial("the same, mixup 0.2 and label smoothing 0.1", changes={**_SLOWER, **_SMOOTH}, folds=2),
    Trial(
        "from block10_add on, rate 0.00005, mixup 0.2, 2 epochs, two wide views, five folds",
        "block10_add",
        {"fine_tune_rate": 5e-5, "fine_tune_mixup": 0.2, "fine_tune_epochs": 2},
        copies=2,
    ),
    Trial("from block10_add on, 3 epochs, two wide views", "block10_add", {"fine_tune_epochs": 3}, folds=2, copies=2),
)


@dataclass(frozen=True)
class Library:
    """The photos, and what the frozen head has learned from."""

    photos: Photos
    groups: fine_tuning.Rows
    features: heads.Floats
    network: "keras.Model"


def run(each: int | None = None, trials: tuple[Trial, ...] = TRIALS) -> list[dict[str, Any]]:
    """Compare; with `each` on so many photos of each class, and without a table."""
    place = real_photos.folder()
    if place is None or not (place.parent / WEIGHTS).is_file():
        print(f"trials are skipped: {real_photos.FOLDER} or {WEIGHTS} beside it is not there")
        return []
    KEPT.mkdir(parents=True, exist_ok=True)
    library = _library(place, each)
    rows, lines = [], []
    for trial in trials:
        for seed in SEEDS:
            row, line = _measured(trial, library, seed)
            rows.append(row)
            lines.append(line)
    if each is None:
        _write(lines)
    return rows


def _library(place: Path, each: int | None) -> Library:
    photos = real_photos.photos(place / "train", each)
    unique, of = np.unique(unsigned([perceptual_hash(pixels) for pixels in photos.pixels]), return_inverse=True)
    training = Training(network="transfer", backbone=str(place.parent / WEIGHTS), layers=LAYERS)
    seeing = backbone.load(training, Folder())
    file = KEPT / f"frozen-{len(photos)}.npy"
    if not file.exists():
        np.save(file, np.stack([seeing.features(view(photos.pixels)) for view in _SHOWN], axis=1))  # type: ignore[arg-type]
    return Library(photos, components(unique, NEAR)[of], np.load(file), seeing.network)


def _measured(trial: Trial, library: Library, seed: int) -> tuple[dict[str, Any], str]:
    labels = library.photos.labels
    settings = Training(fine_tune="if_better", fine_tune_from=trial.layer, seed=seed, **trial.changes)  # type: ignore[arg-type]
    fitted = heads.fit(library.features, labels, library.groups, 3, settings.head, seed)
    assert fitted.out_of_fold is not None
    parts, folds = cutting.cut(library.network, trial.layer), heads.folds
    maps = _maps(trial, library, parts)
    began = time.process_time()
    some = patch.object(heads, "folds", lambda *given: folds(*given)[: trial.folds])
    with some, Learner(parts.upper, library.features, fitted.head, settings) as learner:
        frozen = fine_tuning.FrozenHead(library.features, labels, library.groups, 3, fitted)
        found = fine_tuning.cross_validated(learner, maps, frozen, fitted.out_of_fold, settings, silent)
        learner.restart(fitted.head)
    minutes = (time.process_time() - began) / 60
    asked = np.flatnonzero(~np.isnan(found.out_of_fold[:, 0]))
    before, after = (macro_f1(labels[asked], of[asked].argmax(axis=1), 3) for of in (fitted.out_of_fold, found.out_of_fold))
    curve = ", ".join(f"{score:.3f}" for score in found.scores[1:])
    gain = f"{found.gain:+.3f} ({found.interval[0]:+.3f} to {found.interval[1]:+.3f})" if any(found.interval) else _NONE
    line = f"| {trial.name} | {before:.3f} | {curve} | {gain} | {minutes:.1f} |"
    row = {"name": f"fine-tuning {trial.name}", "value": after, "unit": "macro-F1", "baseline": f"frozen: {before:.3f}"}
    return row | {"ratio": after / before}, line


def _maps(trial: Trial, library: Library, parts: cutting.Cut) -> Maps:
    """The maps of the plain views and of the trial's wide ones. Those of all trials are computed once."""
    folder = KEPT / f"maps-{trial.layer}-{len(library.photos)}"
    random, whole = np.random.default_rng(0), folder / "whole"
    if not whole.exists():
        folder.mkdir(exist_ok=True)
        views = [*_SHOWN, *[lambda pixels: wide(pixels, random)] * COPIES]
        maps_of(parts.lower, library.photos, views, folder, silent)
        whole.touch()
    files = [folder / f"{number}.npy" for number in range(len(parts.lower.outputs))]
    views = len(_SHOWN) + trial.copies
    return Maps(tuple(np.load(file, mmap_mode="r")[:, :views] for file in files), np.ones(len(library.photos), bool))


def _write(lines: list[str]) -> None:
    header = "| recipe | frozen | after each epoch | gain | processor minutes |"
    table = "\n".join([header, "|---|---:|---|---|---:|", *lines])
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{rest.partition(_END)[2]}")
