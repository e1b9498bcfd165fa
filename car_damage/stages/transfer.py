"""Trains the network transfer: features of a backbone, kept in the table of features, and a head on them.

Features are computed for what the table lacks, and written chunk by chunk with an upsert by their key: the run after a kill continues
after the last chunk. They are computed where the training runs, on every engine of the tables.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import features as table
from car_damage.data import near_duplicates
from car_damage.data.groups import groups_of
from car_damage.data.splits import TEST, TRAIN
from car_damage.errors import TooFewPhotos
from car_damage.model.networks import heads
from car_damage.model.networks.backbone import Backbone
from car_damage.model.networks.training import TrainingResult
from car_damage.model.networks.tuning import fine_tuning
from car_damage.model.networks.views import PLAIN, VIEWS, chosen
from car_damage.model.pixels.photos import Photos, PhotoSet
from car_damage.model.quality.evaluation import evaluate
from car_damage.model.report import parts
from car_damage.model.report.parts import Parts
from car_damage.ports import Platform
from car_damage.promotion.retention import Holdings
from car_damage.settings import Settings
from car_damage.showing import if_possible
from car_damage.stage import Progress

if TYPE_CHECKING:
    import keras

CHUNK = 512
"""Photos of one commit: 77 MB decoded. A run that is killed loses at most one chunk."""


@dataclass(frozen=True)
class _Split:
    """The photos of a split that can be read."""

    there: npt.NDArray[np.bool_]
    """(all photos of the split,) which of them are here."""
    features: table.Features
    """(n, views, d)"""
    labels: npt.NDArray[np.int64]
    rows: pa.Table
    """Of silver, in the same order."""


def train(  # noqa: PLR0917 - of what, with what, and where
    rows: pa.Table, photos: PhotoSet, backbone: Backbone, champion: "keras.Model | None", platform: Platform, progress: Progress
) -> TrainingResult:
    """Fit a head on the training photos; with `training.fine_tune`, then train the upper layers of the backbone, too.

    Args:
        rows: of silver, one for each photo: path, sha256, phash, width and height.
        photos: the training photos are those of the split train. Test photos are asked what trainings with a part of them have learned.
        backbone: computes features. Fine-tuning changes it, if it wins.
        champion: a network of the same shape, from which fine-tuning starts.
        platform: has the table of features.
        progress: called for the steps `features` and `epoch`.

    Raises:
        TooFewPhotos: no training photo can be read any more.
    """
    settings = platform.settings
    training, classes = settings.training, settings.labels.classes
    kept, _ = platform.tables.read(settings.tables.features, table.FEATURES.names)
    views = chosen(augment=training.augment)
    learned = _split(rows, photos.part(TRAIN), views, kept, backbone, platform, progress)
    if not learned.there.any():
        raise TooFewPhotos("no training photo can be read any more; run the pipeline again, which validates the present files")
    asked = None
    with if_possible("what the test photos say of a part of the training"):
        asked = _split(rows, photos.part(TEST), (PLAIN,), kept, backbone, platform, progress)
    del kept  # before the head needs memory
    groups = _groups(learned.rows, settings.split.near_duplicate_bits)
    progress("epoch", 0, 1, "choosing the regularisation by cross-validation")
    fitted = heads.fit(learned.features, learned.labels, groups, len(classes), training.head, training.seed)
    metrics = {"head_strength": fitted.strength, "features": float(backbone.length)}
    out_of_fold = None
    if fitted.out_of_fold is not None:
        score = evaluate(learned.labels, fitted.out_of_fold, classes)
        metrics |= {"cross_validation_macro_f1": score.macro_f1, "cross_validation_loss": fitted.losses[fitted.strength]}
    progress("epoch", 1, 1, ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
    head, found = fitted.head, fitted.out_of_fold
    if training.fine_tune != "off":
        frozen = fine_tuning.Frozen(learned.features, learned.labels, groups, len(classes), fitted)
        part, seen = photos.part(TRAIN), np.flatnonzero(learned.there)
        tuned = fine_tuning.tune(backbone.network, frozen, part, seen, [VIEWS[view] for view in views], training, champion, progress)
        head, found, metrics = tuned.head, tuned.out_of_fold, metrics | tuned.metrics
    if found is not None:
        out_of_fold = np.full((len(learned.there), len(classes)), np.nan)
        out_of_fold[learned.there] = found
    with_parts = Parts()
    with if_possible("the trainings with a part of the photos"):
        with_parts = _parts(learned, asked, fitted, settings)
    return TrainingResult(head.on(backbone.network), {}, 0, metrics, out_of_fold, with_parts)


def _split(  # noqa: PLR0917 - what, how it is seen, and by what
    rows: pa.Table, photos: Photos, views: tuple[str, ...], kept: pa.Table, backbone: Backbone, platform: Platform, progress: Progress
) -> _Split:
    features, there = features_of(photos, views, kept, backbone, platform, progress)
    sha256s = pa.array([sha256 for sha256, is_there in zip(photos.sha256s, there.tolist(), strict=True) if is_there], pa.string())
    places = pc.index_in(sha256s, value_set=rows["sha256"].combine_chunks())
    return _Split(there, features[there], photos.labels[there], rows.take(places))


def _parts(learned: _Split, asked: _Split | None, fitted: heads.Fitted, settings: Settings) -> Parts:
    """Trainings with a part of the training photos, and the same regularisation."""
    if asked is None or not len(asked.labels):
        return Parts()
    train, test = (parts.Photos(of.labels, groups_of(of.rows, settings.labels, settings.landing.folder)) for of in (learned, asked))
    classes = len(settings.labels.classes)

    def said(head: heads.Head) -> npt.NDArray[np.int64]:
        return np.asarray(head.probabilities(asked.features[:, 0]).argmax(axis=1))

    def learn(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        features, labels = learned.features[rows], learned.labels[rows]
        return said(heads.with_strength(features, labels, classes, settings.training.head, fitted.strength))

    return parts.measured(train, test, said(fitted.head), learn, classes, settings.promotion.seed)


def features_of(  # noqa: PLR0917 - of what, and what computes what is missing
    photos: Photos, views: tuple[str, ...], kept: pa.Table, backbone: Backbone, platform: Platform, progress: Progress
) -> tuple[table.Features, npt.NDArray[np.bool_]]:
    """The features of photos in these views, from the rows of the table that are `kept`, where it has them.

    Returns:
        (n, views, d) float32, and (n,) bool: which photos have all of them. The others cannot be read any more.
    """
    features, there = table.found(kept, backbone.digest, photos.sha256s, views, backbone.length)
    missing = np.flatnonzero(~there.all(axis=1))
    for at in range(0, len(missing), CHUNK):
        progress("features", at, len(missing), f"{backbone.length} features of each photo, views: {', '.join(views)}")
        _compute(photos, missing[at : at + CHUNK], views, backbone, platform, features, there)
    progress("features", len(missing), len(missing), f"{len(photos) - len(missing):,} photos had their features before")
    return features, np.asarray(there.all(axis=1))


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


def _compute(  # noqa: PLR0917 - what, of which, and where to
    photos: Photos,
    rows: npt.NDArray[np.int64],
    views: tuple[str, ...],
    backbone: Backbone,
    platform: Platform,
    features: table.Features,
    there: npt.NDArray[np.bool_],
) -> None:
    """Compute the features of these photos in all views, put them into both arrays, and write them to the table in one commit."""
    pixels, readable = photos.read(rows)
    rows = rows[readable]
    if not len(rows):
        return
    sha256s = [photos.sha256s[row] for row in rows.tolist()]
    written = []
    for place, view in enumerate(views):
        features[rows, place] = backbone.features(VIEWS[view](pixels))
        there[rows, place] = True
        written.append(table.rows(backbone.digest, sha256s, view, features[rows, place]))
    platform.tables.merge(platform.settings.tables.features, pa.concat_tables(written), table.KEY)


def _groups(rows: pa.Table, bits: int) -> npt.NDArray[np.int64]:
    """(n,) a number for each photo, the same for photos that look alike."""
    hashes, of = np.unique(near_duplicates.unsigned(rows["phash"]), return_inverse=True)
    return np.asarray(near_duplicates.components(hashes, bits)[of])
