"""Evaluates a trained network as it will answer, and writes what the run keeps of that: scores, plots, the report, test predictions."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.people.desk import Desk
from car_damage.data.photos.assignment import flags_of
from car_damage.data.photos.checked import readable
from car_damage.data.photos.groups import groups_of
from car_damage.data.photos.near_duplicates import in_two_splits, unsigned
from car_damage.data.photos.silver import ADDED
from car_damage.data.photos.splits import SPLITS, TEST, TRAIN, VALIDATION
from car_damage.errors import TooFewPhotos
from car_damage.model.answering import Answering
from car_damage.model.networks import training
from car_damage.model.pixels.photos import Photos, PhotoSet
from car_damage.model.quality import plots
from car_damage.model.quality.answers import AnswerQuality, NetworkOutput, fitted, quality_of
from car_damage.model.quality.evaluation import Evaluation, evaluate, most_certain_mistakes
from car_damage.model.report.contents import Mistake, Report
from car_damage.model.report.page import page
from car_damage.model.report.scores import Scores, scores_of
from car_damage.model.run_files import (
    ANSWERING_FILE,
    BASELINE_FILE,
    CONFUSION_MATRIX_FILE,
    DOUBTFUL_LABELS_FILE,
    DOUBTS_FILE,
    EVALUATION_FILE,
    PREDICTIONS_FILE,
    RELIABILITY_FILE,
    REPORT_FILE,
    SMOKE_PHOTO_FILE,
    TRAINING_CURVE_FILE,
    WORST_MISTAKES_FILE,
    write_baseline,
    write_predictions,
)
from car_damage.photo.thumbnails import drawn
from car_damage.pipeline import TrainRequest
from car_damage.ports import Platform
from car_damage.promotion.evidence import costs
from car_damage.settings import Settings
from car_damage.showing import if_possible
from car_damage.stages.training import doubting
from car_damage.stages.training.baselining import UnseenPhotos, baseline, known_signals

if TYPE_CHECKING:
    import keras

    from car_damage.model.onnx_network import OnnxNetwork

OPTIONAL = ADDED
"""Columns of silver that tables of earlier versions lack."""
COLUMNS = ("phash", "width", "height", *OPTIONAL)
"""The columns of silver that are read beside those of the photos."""

_ENVELOPE = 4096
"""Bytes of a request to the endpoint, without the photo."""
_MISTAKES, _SIDE = 24, 192
"""Photos in the report, at most, and pixels of their longer sides. A JPEG of this size has about 10 kB, and 50 kB at most."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training has made, and what the report says about it beside its scores."""

    request: TrainRequest
    rows: pa.Table
    """Of silver, one for each photo."""
    photos: PhotoSet
    network: "OnnxNetwork | keras.Model"
    """Answers as the model will."""
    result: training.TrainingResult
    features: str = ""
    """Digest of its rows in the table of features; empty for a network without."""


@dataclass(frozen=True)
class EvaluatedRun:
    """What the run needs beside the files that are written."""

    metrics: dict[str, float]
    photos: dict[str, int]
    """Split -> its photos."""
    example: bytes
    """A test photo's bytes."""


def evaluated(trained: TrainingOutcome, platform: Platform, folder: Path) -> EvaluatedRun:
    """Evaluate the network on the test and validation photos that can be read, and write the files of the run that say how good it is.

    Raises:
        TooFewPhotos: no photo of a split can be read any more.
    """
    settings, classes = platform.settings, platform.settings.labels.classes
    photos_of = {split: len(trained.photos.part(split)) for split in SPLITS}
    (test, rows, said), (validation, _, to_calibrate) = (_predicted(trained, split) for split in (TEST, VALIDATION))
    prices = costs(classes, settings.promotion.costs)
    answering = fitted(to_calibrate, settings.answers, prices)
    answering.write(folder / ANSWERING_FILE)
    on_test, on_validation = (answering.calibrated(of.probabilities, of.pixels) for of in (said, to_calibrate))
    evaluations = {TEST: evaluate(test.labels, on_test, classes), VALIDATION: evaluate(to_calibrate.labels, on_validation, classes)}
    answers = quality_of(said, answering, prices, settings.answers.review_cost)
    groups = groups_of(rows, settings.labels, settings.landing.folder)
    scores = scores_of(test.labels, on_test, prices, classes, groups, settings.promotion.seed)
    title = f"Test photos of silver version {trained.request.silver_version}"
    shown: dict[str, Callable[[], bytes]] = {
        CONFUSION_MATRIX_FILE: lambda: plots.confusion_matrix(evaluations[TEST], title),
        WORST_MISTAKES_FILE: lambda: plots.worst_mistakes(test, on_test, classes),
        RELIABILITY_FILE: lambda: plots.reliability_diagram(answers.before, answers.after),
        REPORT_FILE: lambda: page(_report(trained, settings, evaluations, scores, answers, _mistakes(test, on_test, rows, classes))),
    }
    unseen = [UnseenPhotos(TEST, test, on_test), UnseenPhotos(VALIDATION, validation, on_validation)]
    shown[BASELINE_FILE] = lambda: write_baseline(
        baseline(trained.photos.part(TRAIN), unseen, answering, trained.rows, classes, known_signals(trained.features, platform))
    )
    asked, now = [*unseen, *_out_of_fold(trained, answering)], platform.clock.now().isoformat()
    doubtful = doubting.found(asked, trained.rows, classes, settings.answers.doubtful, now)
    if doubtful.places:
        shown[DOUBTFUL_LABELS_FILE] = lambda: plots.doubtful_labels(doubtful.tiles(), len(doubtful.places), doubtful.doubts.among)
    if trained.result.epochs:
        shown[TRAINING_CURVE_FILE] = lambda: plots.training_curve(trained.result.history, trained.result.best_epoch)
    for name, draw in shown.items():
        with if_possible(name):
            (folder / name).write_bytes(draw())
    with if_possible("labels that look wrong, on the review desk,"):
        Desk(platform.files, settings.answers, platform.clock).doubt(doubtful.doubts)
    example = smoke_photo(platform, test)
    measured = {split: asdict(of) for split, of in evaluations.items()} | asdict(scores)
    measured["answers"] = [asdict(one) for one in (answers.chosen, *answers.workloads)]
    files = {
        EVALUATION_FILE: json.dumps(measured, indent=1).encode(),
        PREDICTIONS_FILE: write_predictions(test, on_test, classes),
        SMOKE_PHOTO_FILE: example,
        DOUBTS_FILE: doubtful.doubts.written(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    metrics = {f"{split}_photos": float(number) for split, number in photos_of.items()} | scores.metrics()
    metrics |= answers.metrics(TEST, classes) | {"temperature": answering.temperature}
    for split, evaluation in evaluations.items():
        metrics |= evaluation.metrics(split)
    return EvaluatedRun(metrics, photos_of, example)


def smoke_photo(platform: Platform, test: Photos) -> bytes:
    """The first test photo that fits into a request to the endpoint; the first of all where none fits. Raises TooFewPhotos."""
    limit = platform.settings.serving.max_request_bytes - _ENVELOPE
    photos = readable(platform.files, test.paths, test.sha256s, {})
    if (first := next(photos, None)) is None:
        raise TooFewPhotos("no test photo can be read any more; run the pipeline again, which validates the present files")
    return next((photo for photo in itertools.chain([first], photos) if len(photo) * 4 // 3 <= limit), first)


def _predicted(trained: TrainingOutcome, split: str) -> tuple[Photos, pa.Table, NetworkOutput]:
    """The photos of the split that can be read, their rows, and what the network says about them."""
    photos = trained.photos.part(split)
    if trained.result.answered is not None and len(photos):
        probabilities, there = trained.result.answered.probabilities[split], np.ones(len(photos), bool)
    else:
        probabilities = training.predict(trained.network, photos)
        there = photos.there
    if not there.any():
        raise TooFewPhotos("no photo of a split can be read any more; run the pipeline again, which validates the present files")
    photos = photos.only(there)
    rows = _rows(trained, photos)
    return photos, rows, NetworkOutput(photos.labels, probabilities[there], _area(rows))


def _out_of_fold(trained: TrainingOutcome, answering: Answering) -> list[UnseenPhotos]:
    """The training photos that were answered in cross-validation, as the model answers."""
    if (probabilities := trained.result.out_of_fold) is None:
        return []
    answered = np.isfinite(probabilities[:, 0])
    photos = trained.photos.part(TRAIN).only(answered)
    return [UnseenPhotos(TRAIN, photos, answering.calibrated(probabilities[answered], _area(_rows(trained, photos))))]


def _rows(trained: TrainingOutcome, photos: Photos) -> pa.Table:
    return trained.rows.take(pc.index_in(pa.array(photos.sha256s), value_set=trained.rows["sha256"]))


def _area(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Pixels of each photo's file."""
    return np.asarray(rows["width"], np.int64) * np.asarray(rows["height"], np.int64)


def _report(  # noqa: PLR0917 - all that it shows
    trained: TrainingOutcome,
    settings: Settings,
    evaluations: Mapping[str, Evaluation],
    scores: Scores,
    answers: AnswerQuality,
    mistakes: Sequence[Mistake],
) -> Report:
    rows, bits, test = trained.rows, settings.split.near_duplicate_bits, evaluations[TEST]
    return Report(
        network=settings.training.network,
        silver=settings.tables.silver,
        silver_version=trained.request.silver_version,
        fingerprint=trained.request.silver_fingerprint,
        settings=_settings(settings),
        photos=_by_split_and_class(rows),
        left_out=len({**trained.photos.left_out, **trained.photos.lost}),
        near_duplicates=in_two_splits(unsigned(rows["phash"]), flags_of(rows["split"]), bits),
        near_duplicate_bits=bits,
        evaluations=evaluations,
        scores=scores,
        answers=answers,
        costs=costs(settings.labels.classes, settings.promotion.costs).tolist(),
        group_floor=settings.promotion.group_floor,
        mistakes=mistakes,
        mistakes_in_all=test.photos - sum(test.confusion[number][number] for number in range(len(test.classes))),
        curve=trained.result.parts.curve,
        without_group=trained.result.parts.without_group,
    )


def _mistakes(test: Photos, probabilities: npt.NDArray[np.float64], rows: pa.Table, classes: Sequence[str]) -> list[Mistake]:
    """The contact sheet. `rows` are those of the test photos, in the same order."""
    predicted, found = probabilities.argmax(axis=1), []
    worst = most_certain_mistakes(test.labels, probabilities)[:_MISTAKES]
    pixels, there = test.look(worst)
    for photo, row in zip(pixels, worst[there].tolist(), strict=True):
        jpeg = drawn(photo, rows["width"][row].as_py(), rows["height"][row].as_py(), _SIDE)
        said = int(predicted[row])
        found.append(Mistake(jpeg, test.paths[row], classes[test.labels[row]], classes[said], float(probabilities[row, said])))
    return found


def _by_split_and_class(rows: pa.Table) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for row in rows.group_by(["split", "label"]).aggregate([([], "count_all")]).to_pylist():
        counts[row["split"]][row["label"]] = row["count_all"]
    return counts


def _settings(settings: Settings) -> dict[str, str]:
    """The settings that determine the model, by their keys."""
    sections = {name: getattr(settings, name).model_dump(mode="json") for name in ("training", "split", "answers")}
    sections["images"] = asdict(settings.images.limits())
    return {f"{section}.{name}": str(value) for section, values in sections.items() for name, value in values.items()}
