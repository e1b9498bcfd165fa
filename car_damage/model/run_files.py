"""The files of an MLflow run: their names, and the functions that write and read them.

The stages after a training read its predictions on the test photos, the photos that it learned from, and the photo for testing an endpoint.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from car_damage.data import parquet
from car_damage.photo.columns import probability_column

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from car_damage.model.pixels.photos import Photos

KERAS_FILE = "car_damage_classifier.keras"
ONNX_FILE = "car_damage_classifier.onnx"
ANSWERING_FILE = "answering.json"
"""What the model does to its network's probabilities: see `car_damage.model.answering`. Runs of earlier versions lack it."""
CONFUSION_MATRIX_FILE = "confusion_matrix.png"
TRAINING_CURVE_FILE = "training_curve.png"
WORST_MISTAKES_FILE = "worst_mistakes.png"
EVALUATION_FILE = "evaluation.json"
"""The scores on the test and validation photos, also by class; those on the test photos with intervals, and by group; and what the model's
own coverage and others mean on the test photos."""
RELIABILITY_FILE = "reliability.png"
"""How far probabilities can be believed, before and after calibration. Runs of earlier versions lack it."""
REPORT_FILE = "report.html"
"""All of it for a person, as one page: see `car_damage.model.report`. Runs of earlier versions lack it."""
PREDICTIONS_FILE = "test_predictions.parquet"
"""The model's prediction for each test photo: see `write_predictions`."""
OUT_OF_FOLD_FILE = "out_of_fold.parquet"
"""Each training photo's prediction by a head that did not learn from it: see `write_predictions`. Only of the network transfer."""
DOUBTS_FILE = "doubtful_labels.json"
"""The labels that look wrong: see `car_damage.data.people.doubts`. Runs of earlier versions lack it."""
DOUBTFUL_LABELS_FILE = "doubtful_labels.png"
"""Their photos. Missing if there are none."""
TRAINED_FILE = "trained_photos.parquet"
"""The photos that the training has seen: see `car_damage.data.photos.trained`. Runs of earlier versions lack it."""
BASELINE_FILE = "baseline.parquet"
"""What the version's photos look like and how it answers those that it has not learned from: see `car_damage.monitoring.samples`. Traffic
is compared with it. Runs of earlier versions lack it."""
MONITORING_FILES = ("monitoring/course.png", "monitoring/windows.json")
"""What the flow monitor says of the version: a plot, and the latest windows."""
SMOKE_PHOTO_FILE = "smoke_photo"
"""The unchanged bytes of a test photo: sent to an endpoint before a version goes live, and the model's input example."""
SHOWING_PHOTOS = frozenset({WORST_MISTAKES_FILE, DOUBTFUL_LABELS_FILE})
"""Pictures that show test or training photos, which nothing in the file names."""


def write_predictions(photos: "Photos", probabilities: "npt.NDArray[np.floating]", classes: Sequence[str]) -> bytes:
    """A Parquet file of sha256, path, label, predicted (strings) and probability_<class> (doubles), with one row per photo."""
    import pyarrow as pa

    columns = {
        "sha256": pa.array(photos.sha256s, pa.string()),
        "path": pa.array(photos.paths, pa.string()),
        "label": pa.array([classes[number] for number in photos.labels], pa.string()),
        "predicted": pa.array([classes[number] for number in probabilities.argmax(axis=1)], pa.string()),
    }
    columns |= {probability_column(name): pa.array(probabilities[:, number], pa.float64()) for number, name in enumerate(classes)}
    return parquet.to_bytes(pa.table(columns))


def read_predictions(data: bytes) -> "pa.Table":
    """The table in a file of `write_predictions`."""
    return parquet.from_bytes(data)


def write_trained(photos: "pa.Table") -> bytes:
    """A Parquet file of the list that `car_damage.data.photos.trained.trained_photos` makes."""
    return parquet.to_bytes(photos)


def read_trained(data: bytes) -> "pa.Table":
    """The table in a file of `write_trained`."""
    return parquet.from_bytes(data)


def write_baseline(photos: "pa.Table") -> bytes:
    """A Parquet file of a table with the columns of `car_damage.monitoring.samples.BASELINE`, and its metadata."""
    return parquet.to_bytes(photos)


def read_baseline(data: bytes) -> "pa.Table":
    """The table in a file of `write_baseline`."""
    return parquet.from_bytes(data)


def evidence_file(version: int, dry_run: bool = False) -> str:
    """The file with the evidence of a decision on a version."""
    return f"decision/{version}{'.dry_run' if dry_run else ''}.json"


def confusion_plot_file(evidence: str) -> str:
    """The file with the confusion matrices of the evidence."""
    return evidence.removesuffix(".json") + ".png"
