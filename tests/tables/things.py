"""A small table of things, for tests of the port Tables."""

import pyarrow as pa

from car_damage.data import described

NAME = "lab.bronze.things"
SCHEMA = described.table(
    "Things of a lab, each with somebody's note.",
    [
        described.column("key", pa.string(), "The thing's name.", nullable=False),
        described.column("value", pa.int64(), "What it's worth."),
        pa.field("note", pa.string()),
    ],
)


def rows(**values):
    return pa.table({"key": list(values), "value": list(values.values()), "note": ["n"] * len(values)}, schema=SCHEMA)


def keys(*names):
    return pa.table({"key": pa.array(names, pa.string())})


def content(tables, columns=("key", "value")):
    table, version = tables.read(NAME, columns)
    return {row["key"]: row[columns[1]] for row in table.to_pylist()}, version
