"""Computes what a backbone sees in the photos of a training, for those that the table of features lacks.

Only these photos are read. Where the backbone can be exported, the engine of the tables computes: on this machine, or on Spark's
machines, by the same network in the format ONNX, so that either engine goes on with what the other has written. Otherwise Keras computes
on this machine. Rows are written chunk by chunk with an upsert by their key: the run after a kill continues after the last chunk.

Features belong to a photo's content. So a file that is gone since its validation does not matter if its features are there.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.photos import features as table
from car_damage.data.photos.splits import TEST, TRAIN
from car_damage.errors import ModelRefused, RegistryError, Terminal
from car_damage.model.networks.backbone import Backbone
from car_damage.model.networks.seer import ROW, Seer
from car_damage.model.networks.views import VIEWS, chosen
from car_damage.model.pixels.photos import PhotoSet
from car_damage.model.run_files import ONNX_FILE
from car_damage.ports import FEATURES_TAG, Platform, RunSummary, Where
from car_damage.stage import Progress
from car_damage.stages.photos.verdicts import refuse_too_many

CHUNK = 512
"""Photos of one commit. A run that is killed loses at most one chunk."""
_HERE = 64
"""Photos that are decoded at once on this machine, where the engine does not compute."""
_WEIGHT = 1 << 20
"""Bytes that a photo counts in place of its own, when photos are distributed to tasks of Spark: a backbone takes its time for each."""
BY_KERAS = "plain_by_keras"
"""The view of test photos that tells whether the exported network answers like the one that was trained."""
_KNOWN = 3
"""Earlier runs, at most, whose networks are asked for the backbone."""
_LOOKED_AT = 4
"""Photos on which the exported backbone is compared with Keras before it is used."""

Features = table.Features
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PhotoFeatures:
    """What the backbone sees in all photos of a training."""

    backbone: Backbone
    """In the form that has computed the features."""
    features: Features
    """(n, views, d) in the order of the photos. Validation and test photos have only the first view; NaN otherwise."""
    views: tuple[str, ...]
    """Names of the views; the first one is the photo as the served model gets it."""
    by_keras: Features | None
    """(test photos, d) the first view, computed by Keras; None where Keras computes everything."""

    def only(self, views: Sequence[str]) -> "PhotoFeatures":
        """Some of the views, beginning with the first one."""
        places = [self.views.index(view) for view in views]
        return replace(self, features=self.features[:, places], views=tuple(views)) if len(places) < len(self.views) else self


def _prepared(backbone: Backbone, photos: PhotoSet, platform: Platform, progress: Progress) -> Backbone:
    """The backbone in the form that computes features: in the format ONNX, if it can be exported."""

    def few() -> npt.NDArray[np.uint8]:
        return photos.photos.look(np.arange(min(_LOOKED_AT, len(photos))))[0]

    found = backbone.exported(_networks(backbone.digest, platform), few)
    if found.why_keras:
        progress("export", 1, 1, f"the backbone cannot be exported to ONNX, so Keras computes features, on this machine: {found.why_keras}")
    return found


def see(photos: PhotoSet, backbone: Backbone, platform: Platform, progress: Progress) -> tuple[PhotoSet, PhotoFeatures]:
    """The features of the photos. Photos that lack some and cannot be read any more are left out.

    Raises:
        PhotoChanged, Unavailable: too many cannot be read.
        ModelRefused: the backbone gives something else than numbers, or something else once it is exported.
    """
    backbone = _prepared(backbone, photos, platform, progress)
    shas, views = photos.photos.sha256s, chosen(platform.settings.training)
    test, every = np.flatnonzero(photos.splits == TEST), np.arange(len(photos))
    of_backbone = Where("digest", among=[backbone.digest])
    kept, _ = platform.tables.read(platform.settings.tables.features, table.FEATURES.names, where=of_backbone)
    features, there = table.found(kept, backbone.digest, shas, views, backbone.length)
    by_keras, compared = table.found(kept, backbone.digest, [shas[row] for row in test], (BY_KERAS,), backbone.length)
    del kept  # before the head needs memory
    wanted = np.ones(there.shape, bool)
    wanted[photos.splits != TRAIN, 1:] = False
    work = _Work(photos, backbone, platform, progress)
    work.compute(_Target(features, every, views), wanted & ~there)
    if backbone.onnx is not None:
        work.compute(_Target(by_keras, test, (BY_KERAS,)), ~compared)
    known = int(there[wanted].sum())
    progress("features", 1, 1, f"{known:,} of {int(wanted.sum()):,} views of {len(photos):,} photos had their features before")
    readable = photos.photos.there
    seen = PhotoFeatures(backbone, features[readable], views, by_keras[readable[test], 0] if backbone.onnx is not None else None)
    return photos.settled(), seen


@dataclass(frozen=True)
class _Target:
    """Where features are put."""

    features: Features
    """(n, views, d)"""
    photos: Rows
    """(n,) rows of the photo set."""
    views: tuple[str, ...]


@dataclass(frozen=True)
class _Work:
    """Computes features of the photos, and writes them to the table."""

    photos: PhotoSet
    backbone: Backbone
    platform: Platform
    progress: Progress

    def compute(self, target: _Target, lacking: npt.NDArray[np.bool_]) -> None:
        """Fill in and write what is lacking, (n, views)."""
        done, number = 0, int(lacking.any(axis=1).sum())
        for views, rows in _alike(lacking):
            names = tuple(target.views[view] for view in views)
            for at in range(0, len(rows), CHUNK):
                some = rows[at : at + CHUNK]
                self.progress("features", done, number, f"{self.backbone.length} features of each photo, views: {', '.join(names)}")
                computed, there = self._computed(target.photos[some], names)
                self._write(target.photos[some][there], names, computed[there])
                target.features[np.ix_(some, views)] = computed
                done += len(some)

    def _computed(self, photos: Rows, views: tuple[str, ...]) -> tuple[Features, npt.NDArray[np.bool_]]:
        """(n, views, d), and which of the photos could be read (n,); NaN for the others."""
        found = np.full((len(photos), len(views), self.backbone.length), np.nan, np.float32)
        there = np.zeros(len(photos), bool)
        seer = self._seer(views)
        if seer is not None:
            there[self._by_the_engine(seer, photos, found)] = True
        left = np.flatnonzero(~there)
        for at in range(0, len(left), _HERE):
            some = left[at : at + _HERE]
            pixels, there[some] = self.photos.photos.read_together(photos[some])
            refuse_too_many({**self.photos.left_out, **self.photos.lost}, len(self.photos), self.platform.settings.landing)
            if len(pixels):
                found[some[there[some]]] = self._by_keras(views, pixels) if seer is None else seer.of(pixels)
        return found, there

    def _seer(self, views: tuple[str, ...]) -> Seer | None:
        """What computes without Keras; None where Keras has to."""
        if self.backbone.onnx is None or views == (BY_KERAS,):
            return None
        return Seer(self.backbone.onnx, self.platform.settings.images.limits(), self.photos.preparation, views)

    def _by_the_engine(self, seer: Seer, photos: Rows, found: Features) -> Rows:
        """Fill in what the engine of the tables can compute, and return where."""
        of = self.photos.photos
        paths = [of.paths[row] for row in photos]
        files = pa.table({"path": paths, "size": np.full(len(paths), _WEIGHT)})
        try:
            rows = self.platform.tables.each(files, seer, ROW, lambda _: None)
        except Terminal as error:
            self.progress("features", 0, 1, f"this machine computes features, because the engine of the tables cannot: {error}")
            return np.zeros(0, np.int64)
        expected = pa.array([of.sha256s[row] for row in photos], pa.string())
        places = pc.index_in(rows["path"], value_set=pa.array(paths, pa.string()))
        right = pc.and_(pc.fill_null(pc.equal(rows["sha256"], expected.take(places)), False), pc.is_valid(rows["features"]))
        values = pc.list_flatten(rows["features"].filter(right)).to_numpy()
        filled = places.filter(right).to_numpy()
        found[filled] = values.reshape(-1, *found.shape[1:])
        return np.asarray(filled, np.int64)

    def _by_keras(self, views: tuple[str, ...], pixels: npt.NDArray[np.uint8]) -> Features:
        shown = (pixels if view == BY_KERAS else VIEWS[view](pixels) for view in views)
        return np.stack([self.backbone.features(photos) for photos in shown], axis=1)

    def _write(self, photos: Rows, views: tuple[str, ...], computed: Features) -> None:
        if not np.isfinite(computed).all():
            raise ModelRefused("the backbone gives features that are no numbers: choose another training.backbone, or other weights")
        sha256s = [self.photos.photos.sha256s[row] for row in photos]
        rows = [table.rows(self.backbone.digest, sha256s, view, computed[:, place]) for place, view in enumerate(views)]
        if sha256s:
            self.platform.tables.merge(self.platform.settings.tables.features, pa.concat_tables(rows), table.KEY)


def _alike(lacking: npt.NDArray[np.bool_]) -> Iterator[tuple[Rows, Rows]]:
    """The columns and the rows of each group of rows that lack the same."""
    patterns, group = np.unique(lacking, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if pattern.any():
            yield np.flatnonzero(pattern), np.flatnonzero(group.reshape(-1) == number)


def trainings_with(digest: str, platform: Platform) -> list[RunSummary]:
    """The finished trainings with features of this digest, the latest first. Raises what `Tracking.recent` raises."""
    return [run for run in platform.tracking.recent() if run.status == "FINISHED" and run.tags.get(FEATURES_TAG) == digest]


def _networks(digest: str, platform: Platform) -> Iterator[bytes]:
    """Networks of earlier trainings with features of this digest, the latest first."""
    for run in trainings_with(digest, platform)[:_KNOWN]:
        with contextlib.suppress(RegistryError):  # it answers by Keras, or is being removed
            yield platform.tracking.fetch(run.run_id, ONNX_FILE)
