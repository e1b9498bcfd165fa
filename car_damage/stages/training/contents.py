"""Exports the network that a training has made, has it evaluated as it will answer, and gathers what the run holds."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from car_damage.data.photos.silver import SILVER
from car_damage.data.photos.splits import TEST, TRAIN
from car_damage.model.networks import export, training
from car_damage.model.pixels.photos import PhotoSet
from car_damage.model.run_files import ANSWERING_FILE, KERAS_FILE, ONNX_FILE, OUT_OF_FOLD_FILE, write_predictions
from car_damage.pipeline import TrainRequest
from car_damage.ports import Dataset, Platform, RunContents
from car_damage.stage import Progress
from car_damage.stages.training.evaluating import TrainingOutcome, evaluated

_LONGEST_PARAM = 500
"""Characters of a parameter's value that every MLflow server takes."""


def contents(  # noqa: PLR0917 - what was asked, of what, where, and what came of it
    request: TrainRequest,
    rows: pa.Table,
    platform: Platform,
    photos: PhotoSet,
    trained: training.TrainingResult,
    features: str,
    folder: Path,
    progress: Progress,
) -> RunContents:
    """Evaluate a trained network, and write every file of its run into a folder. For `features` see `TrainingOutcome`.

    Raises:
        TooFewPhotos: no photo of a split can be read any more.
        ModelRefused: the exported network answers differently.
    """
    settings = platform.settings
    keras_file = folder / KERAS_FILE
    trained.network.save(keras_file)
    served = _served(trained, folder / ONNX_FILE, photos, progress)
    if settings.training.int8 and served.file is not None:
        progress("export", 0, 1, "computing with 8-bit integers")
        served, trained = export.int8(served, photos.part(TRAIN)), replace(trained, answered=None)
    run = evaluated(TrainingOutcome(request, rows, photos, served.network, trained, features), platform, folder)
    if trained.out_of_fold is not None:
        answered = np.isfinite(trained.out_of_fold[:, 0])
        learned = photos.part(TRAIN).only(answered)
        (folder / OUT_OF_FOLD_FILE).write_bytes(write_predictions(learned, trained.out_of_fold[answered], settings.labels.classes))
    return RunContents(
        params={
            **settings.training.model_dump(mode="json"),
            **{name: str(value)[:_LONGEST_PARAM] for name, value in trained.params.items()},
            "silver_table": settings.tables.silver,
            "silver_version": request.silver_version,
            "answers_by": "keras" if served.file is None else "onnxruntime",
            **{f"preparation_{name}": value for name, value in asdict(photos.preparation).items() if value is not None},
            **({"why_keras": served.why_keras[:_LONGEST_PARAM]} if served.why_keras else {}),
        },
        metrics={"epochs": float(trained.epochs), **trained.metrics, **run.metrics},
        history=trained.history,
        folder=folder,
        keras_file=keras_file,
        onnx_file=served.file,
        answering_file=folder / ANSWERING_FILE,
        example=run.example,
        dataset=Dataset(
            platform.tables.uri(settings.tables.silver), request.silver_version, request.silver_fingerprint, SILVER, run.photos
        ),
        preparation=photos.preparation,
    )


def _served(trained: training.TrainingResult, file: Path, photos: PhotoSet, progress: Progress) -> export.ServedNetwork:
    """The network as it will answer, unless it answers with integers. Everything after the training judges this one."""
    test = photos.part(TEST)
    known = trained.answered
    served = export.served(trained.network, file, test) if known is None else export.answering(trained.network, known, file, test)
    if served.why_keras:
        progress("export", 1, 1, f"the network cannot be exported to ONNX, so the model answers by Keras: {served.why_keras}")
    return served
