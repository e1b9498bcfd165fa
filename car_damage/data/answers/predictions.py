"""The table of predictions: each model version's answer for each photo, and the photos that a version has not scored yet.

Pure: Arrow tables in, Arrow tables out.
"""

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import described
from car_damage.data.photos import ledger
from car_damage.data.photos.ledger import INSTANT

PREDICTIONS = described.table(
    "The answers of model versions to photos that were scored in batches, without the endpoint.",
    [
        described.column("path", pa.string(), "Path of the file.", nullable=False),
        described.column("model_version", pa.int64(), "Version of the registered model that answered.", nullable=False),
        described.column("label", pa.string(), "The most probable class."),
        described.column("probability", pa.float64(), "Probability of the label."),
        described.column("probabilities", pa.string(), "Probabilities of all classes, as a JSON object."),
        described.column("classes", pa.string(), "Classes that cannot be excluded, as a JSON array; null if not told."),
        described.column("review", pa.bool_(), "Whether a person must look; null if the version does not say."),
        described.column("refused", pa.string(), "Why the model could not use the file; null if it answered."),
        described.column("size", pa.int64(), "Size of the file in bytes; null for a photo of a table."),
        described.column("modified", INSTANT, "Time at which the file was last changed; null for a photo of a table."),
        described.column("sha256", pa.string(), "SHA-256 of the bytes that the model saw, in hexadecimal."),
        described.column("flow_run", pa.string(), "Prefect flow run that scored the photo."),
        described.column("scored", INSTANT, "Time of the answer."),
    ],
)
"""probabilities and classes are JSON, so that a change of classes changes no column. By size and modified an overwritten photo is
recognised."""

ADDED = ("classes", "review")
"""The columns that tables of earlier versions lack."""
KEY = ("path", "model_version")
FILE = ("path", "size", "modified")
"""The columns of a photo to be scored."""
ANSWER = pa.schema([PREDICTIONS.field(name) for name in ("label", "probability", "probabilities", *ADDED, "refused", "sha256")])
"""The columns of a model's answer."""


def of_paths(paths: pa.ChunkedArray) -> pa.Table:
    """The columns `FILE` for the photos of a table: each path once, with unknown (null) size and time."""
    unique = pa.chunked_array([pc.unique(paths.cast(pa.string())).drop_null()])
    schema = pa.schema([PREDICTIONS.field(name) for name in FILE])
    return pa.table([unique, pa.nulls(len(unique), pa.int64()), pa.nulls(len(unique), INSTANT)], schema=schema)


def unscored(photos: pa.Table, predictions: pa.Table, version: int) -> pa.Table:
    """The photos that the model version has not scored yet, sorted by path.

    A photo has been scored if the version has a row with the same `FILE`; for a photo of unknown size, with the same path.

    Args:
        photos: the columns `FILE`, one row per path.
        predictions: the columns `FILE` and model_version.
        version: the model version.
    """
    return pa.concat_tables([one.cast(photos.schema) for one in _joined(photos, predictions, version, "left anti")]).sort_by("path")


def answered(photos: pa.Table, predictions: pa.Table, version: int) -> pa.Table:
    """The rows of the predictions that a model version has made of these photos. The arguments are those of `unscored`; the predictions may
    have more columns, and so has what is returned.
    """
    return pa.concat_tables(_joined(photos, predictions, version, "inner"), promote_options="default")


def _joined(photos: pa.Table, predictions: pa.Table, version: int, how: str) -> list[pa.Table]:
    """Photos of a table, and then files of a folder, joined with what the version has said of them."""
    scored = ledger.conform(predictions, PREDICTIONS, predictions.column_names)
    scored = scored.filter(pc.equal(scored["model_version"], version)).drop_columns("model_version")
    of_table = pc.is_null(photos["size"])
    tables = photos.filter(of_table), photos.filter(pc.invert(of_table))
    return [
        tables[0].join(scored.drop_columns(["size", "modified"]), ["path"], join_type=how),
        tables[1].join(scored, list(FILE), join_type=how),
    ]
