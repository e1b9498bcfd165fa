"""The columns of tables, in types and schemas that all engines share."""

from collections.abc import Sequence

import pyarrow as pa

from car_damage.data.answers.predictions import ANSWER


def result_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of the result of `each`, for work that returns rows of `schema`."""
    front = [pa.field("path", pa.string()), pa.field("unreadable", pa.string())]
    return pa.schema([*front, *(field.with_nullable(True) for field in schema)])


ANSWERS = result_schema(ANSWER)
"""The schema of the tables of `answers`."""


def plain(rows: pa.Table) -> pa.Table:
    """The same rows with types that all readers of Delta tables support: no views, no large strings, timestamps in UTC."""
    if unsigned := [field.name for field in rows.schema if pa.types.is_unsigned_integer(field.type)]:
        raise ValueError(f"Delta tables have no unsigned integers: {', '.join(unsigned)}")
    return rows.cast(pa.schema([field.with_type(_plain(field.type)) for field in rows.schema], rows.schema.metadata))


def with_columns(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The columns in their order; one that the rows lack is null."""
    return pa.table({name: rows[name] if name in rows.column_names else pa.nulls(rows.num_rows) for name in columns})


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.timestamp(kind.unit, "UTC")
    return kind
