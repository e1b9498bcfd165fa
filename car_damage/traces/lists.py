"""Parquet files with rows that name photos in the column sha256."""

import pyarrow as pa
import pyarrow.parquet as pq

from car_damage.traces.rows import HASH
from car_damage.traces.sought import Sought


def rows(data: bytes) -> pa.Table:
    """The rows of a file.

    Raises:
        ValueError: it is not such a file, or not a whole one.
    """
    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"no Parquet file: {error}") from error


def written(table: pa.Table) -> bytes:
    """The file of these rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def among(table: pa.Table, sought: Sought) -> pa.ChunkedArray:
    """Whether each row is of the photo. A file without hashes has none."""
    return (
        sought.among(table[HASH]) if HASH in table.column_names else pa.chunked_array([pa.repeat(pa.scalar(value=False), table.num_rows)])
    )
