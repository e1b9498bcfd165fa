"""The table of predictions: what each model version said of each photo, and which photos a version has yet to be asked about.

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
"""probability is that of the label; probabilities are those of all classes, a JSON object, so that a change of classes changes
no column; refused says why the model took the file for no photo. size (bytes) and modified are the file's where it came from
a folder, by which a photo that was overwritten is known; sha256 of the bytes that the model saw; scored the time."""

KEY = ("path", "model_version")
FILE = ("path", "size", "modified")
"""The columns of a photo that is to be scored."""


def of_paths(paths: pa.ChunkedArray) -> pa.Table:
    """`FILE` for the photos of a table: each path once; their size and time are not known."""
    unique = pa.chunked_array([pc.unique(paths.cast(pa.string())).drop_null()])
    schema = pa.schema([PREDICTIONS.field(name) for name in FILE])
    return pa.table([unique, pa.nulls(len(unique), pa.int64()), pa.nulls(len(unique), INSTANT)], schema=schema)


def unscored(photos: pa.Table, predictions: pa.Table, version: int) -> pa.Table:
    """Those of `photos` for which the version has no row of the same file, by path. Of a table's photos, whose size is not known,
    those for which it has no row of the same path.

    Args:
        photos: `FILE`, one row a path.
        predictions: the columns `FILE` and model_version.
        version: of the model.
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
