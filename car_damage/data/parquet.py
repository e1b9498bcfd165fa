"""Tables as the bytes of Parquet files."""

import pyarrow as pa
import pyarrow.parquet as pq


def to_bytes(table: pa.Table, compression: str = "snappy") -> bytes:
    """The file of a table, with its metadata."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=compression)
    return bytes(sink.getvalue())


def from_bytes(data: bytes) -> pa.Table:
    """The table in such a file.

    Raises:
        ValueError: it is none, or not a whole one.
    """
    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"no Parquet file: {error}") from error
