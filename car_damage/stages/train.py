"""Stage train: trains a network on one version of silver, and logs everything about it to MLflow.

The MLflow run is looked up by the training key first and finished last: asked again after a kill, the stage finds a
run that is whole, or trains. `car_damage.model.run_files` names what it writes.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.people.reviews import unnamed
from car_damage.data.photos.splits import SPLITS, TRAIN, VALIDATION
from car_damage.data.photos.trained import trained_photos
from car_damage.errors import CarDamageError, TooFewPhotos
from car_damage.machine import Scratch
from car_damage.model.networks import backbone, training
from car_damage.model.pixels.photos import COLUMNS, PhotoSet, load
from car_damage.model.pixels.resolution import learn
from car_damage.model.run_files import TRAINED_FILE, write_trained
from car_damage.packages import that_train_here, that_train_here_exactly
from car_damage.photo.preparation import Preparation
from car_damage.pipeline import UNREADABLE_SHOWN, RegisterRequest, TrainReport, TrainRequest, digest, register_request
from car_damage.ports import (
    BRONZE_TAG,
    FEATURES_TAG,
    FLOW_RUN_TAG,
    KEY_TAG,
    NETWORK_TAG,
    PACKAGES_TAG,
    SILVER_TAG,
    WARM_START_TAG,
    Platform,
)
from car_damage.settings import Settings
from car_damage.stage import HOUR, Next, Progress, Stage
from car_damage.stages.photos.verdicts import leave_out, refuse_too_many
from car_damage.stages.training import evaluating, transfer, warm_start
from car_damage.stages.training.contents import contents
from car_damage.stages.training.network import NetworkChoice, settle
from car_damage.stages.training.search import searched
from car_damage.stages.training.seeing import PhotoFeatures, see

if TYPE_CHECKING:
    import keras

_REPORTED = ("epochs", "train_", "validation_", "test_")
"""Beginnings of the metrics that a train report holds; MLflow has the metrics of each epoch, too."""


def work(request: TrainRequest, platform: Platform, progress: Progress) -> TrainReport:
    """Train, unless a finished run has this training key and the packages of this environment.

    Raises:
        TooFewPhotos: a split is empty, or the training photos are all of one class.
        PhotoChanged: too many photos are no longer those that were validated.
        Unavailable: too many cannot be read.
        SettingsError: the backbone that the settings name cannot be had.
        Unavailable: it cannot be had, and the champion sees through it.
    """
    if (report := _found(request, platform)) is not None:
        progress("epoch", 1, 1, f"run {report.run_id} was trained on the same photos with the same settings")
        return report
    settings = platform.settings
    rows, _ = platform.tables.read(
        settings.tables.silver, (*COLUMNS, *evaluating.COLUMNS), request.silver_version, optional=evaluating.OPTIONAL
    )
    _check(rows, request.silver_version)
    images = settings.images
    common = settings.training.resolution == "common"
    preparation = learn(rows, platform.files, images.workers, platform.clock) if common else Preparation()
    # Before the photos, whose reading takes longest: a backbone that cannot be had is told at once.
    settled = settle(request, platform, lambda training: backbone.load(training, platform.files, preparation), progress)
    request = settled.request
    with load(
        rows,
        platform.files,
        images.limits(),
        settings.labels.classes,
        images.workers,
        progress,
        images.cache_bytes,
        platform.clock,
        int(settings.landing.max_vanished_share * rows.num_rows),
        preparation,
        ahead=settled.backbone is None,
    ) as loaded:
        photos, seen = (loaded, None) if settled.backbone is None else see(loaded, settled.backbone, settled.platform, progress)
        leave_out(photos.left_out, platform)
        refuse_too_many(photos.left_out, rows.num_rows, settings.landing)
        if photos.left_out:
            request = replace(request, training_key=_key_without(request.training_key, photos.left_out))
            if (found := _found(request, platform)) is not None:
                some, count = _left_out(photos, settings)
                return replace(found, left_out=some, left_out_count=count)
        rows = rows.filter(pc.invert(pc.is_in(rows["path"], value_set=pa.array(photos.left_out, pa.string()))))
        _check(rows, request.silver_version)
        try:
            report = _tracked(replace(settled, request=request), rows, photos, seen, progress)
        except Exception as error:
            try:
                leave_out(photos.lost, platform)  # otherwise the next run would meet them again
            except CarDamageError as second:
                error.add_note(f"and the photos that were lost could not be marked: {second}")
            raise
        leave_out(photos.lost, platform)
        return report


def _found(request: TrainRequest, platform: Platform) -> TrainReport | None:
    """The report of a finished run with one of the request's keys."""
    for key in filter(None, (request.training_key, request.fallback_key)):
        found = platform.tracking.run_for(key, that_train_here())
        # With train_again, a run that this flow run has trained is enough: the stage is repeated after a fault or a kill.
        if found is not None and not (request.train_again and found.flow_run != request.flow_run):
            return TrainReport(key, found.run_id, found.model_uri, _reported(found.metrics), network=found.network)
    return None


def _check(rows: pa.Table, version: int) -> None:
    what = f"silver version {version} has"
    for split in SPLITS:
        if not (number := rows["split"].to_pylist().count(split)):
            raise TooFewPhotos(
                f"{what} {rows.num_rows} photos, none of them in the split {split}: add labelled photos to the landing folder, "
                "three or more of each class, and run again"
            )
        if split == TRAIN:
            labels = {label for label, of in zip(rows["label"].to_pylist(), rows["split"].to_pylist(), strict=True) if of == split}
            if len(labels) < 2:
                raise TooFewPhotos(
                    f"{what} {number} training photos, all of them {labels.pop()}: add photos of another class and run again"
                )


def _tracked(settled: NetworkChoice, rows: pa.Table, photos: PhotoSet, seen: PhotoFeatures | None, progress: Progress) -> TrainReport:
    """Train inside an MLflow run, which ends as finished or as failed."""
    request, platform = settled.request, settled.platform
    settings, tracking = platform.settings, platform.tracking
    tags = {
        KEY_TAG: request.training_key,
        FLOW_RUN_TAG: request.flow_run,
        NETWORK_TAG: settings.training.network,
        PACKAGES_TAG: that_train_here_exactly(),
        "silver_table": settings.tables.silver,
        SILVER_TAG: str(request.silver_version),
        "silver_fingerprint": request.silver_fingerprint,
    }
    if request.bronze_version >= 0:
        tags[BRONZE_TAG] = str(request.bronze_version)
    if features := "" if seen is None else seen.backbone.digest:
        tags[FEATURES_TAG] = features
    run_id = tracking.start(f"{settings.training.network}-silver-{request.silver_version}", tags)
    try:
        with Scratch("run") as folder:
            settled = _searched(settled, run_id, rows, photos, seen, progress)
            start = warm_start.start_of(settled.platform, None if seen is None else seen.backbone)
            trained = _trained(settled, rows, photos, seen, start.network, progress)
            start = start.after(trained)
            (folder / TRAINED_FILE).write_bytes(write_trained(start.learned(trained_photos(rows))))
            whole = contents(request, rows, settled.platform, photos, trained, features, folder, progress)
            whole = replace(whole, tags={WARM_START_TAG: start.said} if start.said else {})
            progress("log", 0, 1, "logging the run and its model to MLflow")
            model_uri = tracking.log(run_id, whole)
        key = _key_without(request.training_key, photos.lost)
        tracking.finish(run_id, model_uri, key if photos.lost else None)
    except Exception as error:
        try:
            tracking.fail(run_id, f"{type(error).__name__}: {error}")
        except CarDamageError as second:
            error.add_note(f"and the run could not be marked as failed: {second}")
        raise
    progress("log", 1, 1, f"run {run_id}")
    return TrainReport(key, run_id, model_uri, _reported(whole.metrics), *_left_out(photos, settings), settings.training.network)


def _searched(  # noqa: PLR0917 - what was asked, of what, and with what
    settled: NetworkChoice, run_id: str, rows: pa.Table, photos: PhotoSet, seen: PhotoFeatures | None, progress: Progress
) -> NetworkChoice:
    """With better settings of training, where the settings ask for a search."""
    settings = settled.platform.settings
    if not settings.training.search_minutes:
        return settled
    if seen is not None:
        loss_of = transfer.loss_of(rows, photos, seen, settings)
    else:
        loss_of = partial(training.loss_of, photos.part(TRAIN), photos.part(VALIDATION), len(settings.labels.classes))
    return replace(settled, platform=searched(settled.request, run_id, settled.platform, loss_of, progress))


def _trained(  # noqa: PLR0917 - what was asked, of what, and with what
    settled: NetworkChoice, rows: pa.Table, photos: PhotoSet, seen: PhotoFeatures | None, champion: "keras.Model | None", progress: Progress
) -> training.TrainingResult:
    platform, settings = settled.platform, settled.platform.settings
    if seen is not None:
        trained = transfer.train(rows, photos, seen, champion, settings, progress)
        transfer.remove_in_a_job(platform, settled.request.training_key)
    else:
        of, classes = (photos.part(TRAIN), photos.part(VALIDATION)), len(settings.labels.classes)
        trained = training.train(*of, classes, settings.training, progress, champion)
    return replace(trained, params={**trained.params, **settled.params})


def _key_without(key: str, photos: Mapping[str, CarDamageError]) -> str:
    """Another key for a training without some photos, so that its run does not stand for all once they can be read again."""
    return digest([key, *sorted(photos)]) if photos else key


def _left_out(photos: PhotoSet, settings: Settings) -> tuple[tuple[str, ...], int]:
    """Paths of some photos that the training leaves out, from the start or since they were lost, and their number."""
    paths = sorted({**photos.left_out, **photos.lost})
    return tuple(unnamed(path, settings.answers.corrections) for path in paths[:UNREADABLE_SHOWN]), len(paths)


def _reported(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in sorted(metrics.items()) if name.startswith(_REPORTED)}


def _register_request(request: TrainRequest, report: TrainReport, options: Mapping[str, bool]) -> RegisterRequest:
    return register_request(request.flow_run, request, report, options.get("dry_run", False), options.get("judge_again", False))


STAGE = Stage("train", TrainRequest, TrainReport, work, job="train", deadline=11.5 * HOUR, next=Next("register", _register_request))
