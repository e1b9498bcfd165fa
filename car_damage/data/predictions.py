"""The table of predictions: each model version's answer for each photo, and the photos that a version has not scored yet.

Pure: Arrow tables in, Arrow tables out.
"""

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import ledger
from car_damage.data.ledger import INSTANT

PREDICTIONS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("model_version", pa.int64(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("probability", pa.float64()),
        pa.field("probabilities", pa.string()),
        pa.field("refused", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("modified", INSTANT),
        pa.field("sha256", pa.string()),
        pa.field("flow_run", pa.string()),
        pa.field("scored", INSTANT),
    ]
)
"""probability: of the label. probabilities: of all classes, as a JSON object, so that a change of classes changes no column.
refused: why the model could not use the file. size (bytes), modified: of a file in a folder, so that an overwritten photo is
recognised; null for a photo of a table. sha256: of the bytes that the model saw. scored: the time."""

KEY = ("path", "model_version")
FILE = ("path", "size", "modified")
"""The columns of a photo to be scored."""
ANSWER = pa.schema([PREDICTIONS.field(name) for name in ("label", "probability", "probabilities", "refused", "sha256")])
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
    columns = [*FILE, "model_version"]
    scored = ledger.conform(predictions, PREDICTIONS, columns)
    scored = scored.filter(pc.equal(scored["model_version"], version)).select(list(FILE))
    of_table = pc.is_null(photos["size"])
    parts = [
        photos.filter(of_table).join(scored.select(["path"]), ["path"], join_type="left anti"),
        photos.filter(pc.invert(of_table)).join(scored, list(FILE), join_type="left anti"),
    ]
    return pa.concat_tables([part.select(list(FILE)).cast(photos.schema) for part in parts]).sort_by("path")
