"""Trains inside a run of the stage train, evaluates the network as it will answer, and writes every file of the run."""

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from car_damage.data.checked import readable
from car_damage.data.silver import SILVER
from car_damage.data.splits import SPLITS, TEST, TRAIN, VALIDATION
from car_damage.errors import TooFewPhotos
from car_damage.model import export, plots, training
from car_damage.model.evaluation import Evaluation, evaluate
from car_damage.model.photos import Photos, PhotoSet
from car_damage.model.run_files import (
    CONFUSION_MATRIX_FILE,
    EVALUATION_FILE,
    KERAS_FILE,
    ONNX_FILE,
    OUT_OF_FOLD_FILE,
    PREDICTIONS_FILE,
    SMOKE_PHOTO_FILE,
    TRAINING_CURVE_FILE,
    WORST_MISTAKES_FILE,
    write_predictions,
)
from car_damage.pipeline import TrainRequest
from car_damage.ports import Dataset, Platform, RunContents
from car_damage.showing import if_possible
from car_damage.stage import Progress

if TYPE_CHECKING:
    import keras

    from car_damage.model.onnx_network import OnnxNetwork

ENVELOPE = 4096
"""Bytes of a request to the endpoint, without the photo."""

_LONGEST_PARAM = 500
"""Characters of a parameter's value that every MLflow server takes."""


def contents(  # noqa: PLR0917 - what was asked, where, and what came of it
    request: TrainRequest, platform: Platform, photos: PhotoSet, trained: training.TrainingResult, folder: Path, progress: Progress
) -> RunContents:
    """Evaluate a trained network, and write every file of its run into a folder."""
    settings = platform.settings
    classes = settings.labels.classes
    train, validation, test = (photos.part(split) for split in SPLITS)
    keras_file = folder / KERAS_FILE
    trained.network.save(keras_file)
    served = _served(trained.network, folder / ONNX_FILE, photos, settings.training.int8, progress)
    (test, on_test), (validation, on_validation) = (_predicted(served.network, photos) for photos in (test, validation))
    scores = {TEST: evaluate(test.labels, on_test, classes), VALIDATION: evaluate(validation.labels, on_validation, classes)}
    photos_of = {TRAIN: len(train), VALIDATION: len(validation), TEST: len(test)}
    smoke = _smoke_photo(platform, test)
    title = f"Test photos of silver version {request.silver_version}"
    drawings: dict[str, Callable[[], bytes]] = {
        CONFUSION_MATRIX_FILE: lambda: plots.confusion_matrix(scores[TEST], title),
        WORST_MISTAKES_FILE: lambda: plots.worst_mistakes(test, on_test, classes),
    }
    if trained.epochs:
        drawings[TRAINING_CURVE_FILE] = lambda: plots.training_curve(trained.history, trained.best_epoch)
    for name, draw in drawings.items():
        with if_possible(name):
            (folder / name).write_bytes(draw())
    files = {
        EVALUATION_FILE: json.dumps({split: asdict(score) for split, score in scores.items()}, indent=1).encode(),
        PREDICTIONS_FILE: write_predictions(test, on_test, classes),
        SMOKE_PHOTO_FILE: smoke,
    }
    if trained.out_of_fold is not None:
        answered = np.isfinite(trained.out_of_fold[:, 0])
        files[OUT_OF_FOLD_FILE] = write_predictions(train.only(answered), trained.out_of_fold[answered], classes)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return RunContents(
        params={
            **settings.training.model_dump(mode="json"),
            "silver_table": settings.tables.silver,
            "silver_version": request.silver_version,
            "answers_by": "keras" if served.file is None else "onnxruntime",
            **{f"preparation_{name}": value for name, value in asdict(photos.preparation).items() if value is not None},
            **({"why_keras": served.why_keras[:_LONGEST_PARAM]} if served.why_keras else {}),
        },
        metrics=_metrics(scores, trained, photos_of),
        history=trained.history,
        folder=folder,
        keras_file=keras_file,
        onnx_file=served.file,
        example=smoke,
        dataset=Dataset(platform.tables.uri(settings.tables.silver), request.silver_version, request.silver_fingerprint, SILVER, photos_of),
        preparation=photos.preparation,
    )


def _served(network: "keras.Model", file: Path, photos: PhotoSet, int8: bool, progress: Progress) -> export.ServedNetwork:
    """The network as it will answer. Everything after the training judges this one."""
    served = export.served(network, file, photos.part(TEST))
    if served.why_keras:
        progress("export", 1, 1, f"the network cannot be exported to ONNX, so the model answers by Keras: {served.why_keras}")
    elif int8:
        progress("export", 0, 1, "computing with 8-bit integers")
        served = export.int8(served, photos.part(TRAIN))
    return served


def _predicted(network: "OnnxNetwork | keras.Model", photos: Photos) -> tuple[Photos, npt.NDArray[np.float32]]:
    """The photos that can be read, and their probabilities.

    Raises:
        TooFewPhotos: none can.
    """
    probabilities = training.predict(network, photos)
    there = photos.there
    if not there.any():
        raise TooFewPhotos("no photo of a split can be read any more; run the pipeline again, which validates the present files")
    return photos.only(there), probabilities[there]


def _smoke_photo(platform: Platform, test: Photos) -> bytes:
    """The first test photo that fits into a request to the endpoint; the first of all where none fits."""
    limit = platform.settings.serving.max_request_bytes - ENVELOPE
    photos = readable(platform.files, test.paths, test.sha256s, {})
    if (first := next(photos, None)) is None:
        raise TooFewPhotos("no test photo can be read any more; run the pipeline again, which validates the present files")
    return next((photo for photo in itertools.chain([first], photos) if len(photo) * 4 // 3 <= limit), first)


def _metrics(scores: dict[str, Evaluation], trained: training.TrainingResult, photos: dict[str, int]) -> dict[str, float]:
    metrics = {"epochs": float(trained.epochs), **trained.metrics, **{f"{split}_photos": float(number) for split, number in photos.items()}}
    for split, score in scores.items():
        metrics |= score.metrics(split)
    return metrics
