"""Trains the network transfer: a head on what a backbone sees in the photos. See `car_damage.stages.training.seeing` for that."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.photos import features as table
from car_damage.data.photos import near_duplicates
from car_damage.data.photos.groups import groups_of
from car_damage.data.photos.splits import SPLITS, TEST, TRAIN
from car_damage.model.networks import heads, onnx_parts
from car_damage.model.networks.training import KnownAnswers, TrainingResult
from car_damage.model.networks.tuning import fine_tuning
from car_damage.model.networks.views import VIEWS, chosen
from car_damage.model.pixels.photos import PhotoSet
from car_damage.model.quality.evaluation import evaluate
from car_damage.model.report import parts
from car_damage.model.report.parts import Parts
from car_damage.ports import Platform
from car_damage.promotion.retention import Holdings
from car_damage.settings import Settings, Training
from car_damage.showing import if_possible
from car_damage.stage import Progress
from car_damage.stages.training.seeing import PhotoFeatures

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class _Split:
    """The photos of a split."""

    features: table.Features
    """(n, views, d)"""
    labels: npt.NDArray[np.int64]
    rows: pa.Table
    """Of silver, in the same order."""


def train(  # noqa: PLR0917 - of what, with what, and how
    rows: pa.Table, photos: PhotoSet, seen: PhotoFeatures, champion: "keras.Model | None", settings: Settings, progress: Progress
) -> TrainingResult:
    """Fit a head on the training photos; with `training.fine_tune`, then train the upper layers of the backbone, too.

    Args:
        rows: of silver, one for each photo: path, sha256, phash, width and height.
        photos: the training photos are those of the split train. Test photos are asked what trainings with a part of them have learned.
        seen: the features of the photos. Fine-tuning changes its backbone, if it wins.
        champion: a network of the same shape, from which fine-tuning starts.
        settings: all settings.
        progress: called for the steps `features` and `epoch`.
    """
    training, classes = settings.training, settings.labels.classes
    seen = seen.only(chosen(training))
    learned, asked = (_split(rows, photos, seen, split) for split in (TRAIN, TEST))
    groups = _groups(learned.rows, settings.split.near_duplicate_bits)
    progress("epoch", 0, 1, "choosing the regularisation by cross-validation")
    fitted = _fitted(learned, groups, len(classes), training)
    metrics = {"head_strength": fitted.strength, "features": float(seen.features.shape[2])}
    if fitted.out_of_fold is not None:
        score = evaluate(learned.labels, fitted.out_of_fold, classes)
        metrics |= {"cross_validation_macro_f1": score.macro_f1, "cross_validation_loss": fitted.losses[fitted.strength]}
    progress("epoch", 1, 1, ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    with_parts = Parts()
    with if_possible("the trainings with a part of the photos"):
        with_parts = _parts(learned, asked, fitted, settings)
    kept = fine_tuning.TuningResult(fitted.head, fitted.out_of_fold)
    if training.fine_tune != "off":
        frozen = fine_tuning.FrozenHead(learned.features, learned.labels, groups, len(classes), fitted)
        views = [VIEWS[view] for view in chosen(training)]
        kept = fine_tuning.tune(seen.backbone.network, frozen, photos.part(TRAIN), views, training, champion, progress)
    # Features are those of the frozen backbone, so one that has learned must look at the photos.
    answered = None if kept.won else _answered(fitted.head, photos, seen)
    network = kept.head.on(seen.backbone.network)
    return TrainingResult(network, {}, 0, metrics | kept.metrics, kept.out_of_fold, with_parts, answered=answered)


def loss_of(rows: pa.Table, photos: PhotoSet, seen: PhotoFeatures, settings: Settings) -> Callable[[Training], float]:
    """What a search asks: the mean log loss out of fold of a head with other settings of training; infinite where photos are too few. The
    arguments are those of `train`.
    """
    groups = _groups(_split(rows, photos, seen, TRAIN).rows, settings.split.near_duplicate_bits)

    def loss(training: Training) -> float:
        learned = _split(rows, photos, seen.only(chosen(training)), TRAIN)
        return min(_fitted(learned, groups, len(settings.labels.classes), training).losses.values(), default=math.inf)

    return loss


def _fitted(learned: _Split, groups: npt.NDArray[np.int64], classes: int, training: Training) -> heads.Fitted:
    return heads.fit(learned.features, learned.labels, groups, classes, training.head, training.seed, training.components)


def _split(rows: pa.Table, photos: PhotoSet, seen: PhotoFeatures, split: str) -> _Split:
    of = photos.part(split)
    places = pc.index_in(pa.array(of.sha256s, pa.string()), value_set=rows["sha256"].combine_chunks())
    return _Split(seen.features[photos.splits == split], of.labels, rows.take(places))


def _answered(head: heads.Head, photos: PhotoSet, seen: PhotoFeatures) -> KnownAnswers:
    def answers(features: table.Features) -> npt.NDArray[np.float32]:
        return head.probabilities(features).astype(np.float32)

    backbone = seen.backbone
    onnx = None if backbone.onnx is None else onnx_parts.with_head(backbone.onnx, head)
    probabilities = {split: answers(seen.features[photos.splits == split, 0]) for split in SPLITS}
    return KnownAnswers(onnx, backbone.why_keras, probabilities, None if seen.by_keras is None else answers(seen.by_keras))


def _parts(learned: _Split, asked: _Split, fitted: heads.Fitted, settings: Settings) -> Parts:
    """Trainings with a part of the training photos, and the same regularisation."""
    if not len(asked.labels):
        return Parts()
    train, test = (parts.Photos(of.labels, groups_of(of.rows, settings.labels, settings.landing.folder)) for of in (learned, asked))
    classes = len(settings.labels.classes)

    def said(head: heads.Head) -> npt.NDArray[np.int64]:
        return np.asarray(head.probabilities(asked.features[:, 0]).argmax(axis=1))

    def learn(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        features, labels = learned.features[rows], learned.labels[rows]
        return said(heads.with_strength(features, labels, classes, settings.training.head, fitted.strength, settings.training.components))

    return parts.measured(train, test, said(fitted.head), learn, classes, settings.promotion.seed)


def superfluous(platform: Platform, digests: Collection[str]) -> pa.Table:
    """The keys of rows that belong to no photo of silver, or to none of these digests."""
    names = platform.settings.tables
    keys, version = platform.tables.read(names.features, table.KEY)
    if version < 0:
        return keys
    photos, _ = platform.tables.read(names.silver, ["sha256"])
    return table.superfluous(keys, digests, photos["sha256"].to_pylist())


def remove(keys: pa.Table, platform: Platform) -> None:
    """Remove these rows."""
    if keys.num_rows:
        platform.tables.merge(platform.settings.tables.features, table.FEATURES.empty_table(), table.KEY, remove=keys)


def remove_in_a_job(platform: Platform, training_key: str) -> None:
    """Remove what is superfluous after a training. Elsewhere the stage tidy does it, which no job runs."""
    if platform.settings.databricks.stages == "jobs":
        with if_possible("the removal of old features"):
            remove(superfluous(platform, Holdings.of(platform).features(training_key)), platform)


def _groups(rows: pa.Table, bits: int) -> npt.NDArray[np.int64]:
    """(n,) a number for each photo, the same for photos that look alike."""
    hashes, of = np.unique(near_duplicates.unsigned(rows["phash"]), return_inverse=True)
    return np.asarray(near_duplicates.components(hashes, bits)[of])
