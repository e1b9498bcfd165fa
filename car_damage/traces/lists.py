"""Parquet files with rows that name photos in the column sha256."""

import pyarrow as pa

from car_damage.traces.rows import HASH
from car_damage.traces.sought import SoughtPhoto


def among(table: pa.Table, sought: SoughtPhoto) -> pa.ChunkedArray:
    """Whether each row is of the photo. A file without hashes has none."""
    return (
        sought.among(table[HASH]) if HASH in table.column_names else pa.chunked_array([pa.repeat(pa.scalar(value=False), table.num_rows)])
    )
