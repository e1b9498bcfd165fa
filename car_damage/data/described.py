"""Comments on tables and columns, in the metadata of their schemas: a catalog shows them to people."""

from collections.abc import Sequence

import pyarrow as pa

COMMENT = "comment"
"""The key of the metadata. Delta tables keep the comment of a column under the same key."""


def column(name: str, kind: pa.DataType, comment: str, *, nullable: bool = True) -> pa.Field:
    """A column with its comment."""
    return pa.field(name, kind, nullable=nullable, metadata={COMMENT: comment})


def table(comment: str, columns: Sequence[pa.Field]) -> pa.Schema:
    """The schema of a table with its comment."""
    return pa.schema(columns, metadata={COMMENT: comment})


def comment_of(described: pa.Field | pa.Schema) -> str:
    """The comment on a column or a table; empty if it has none."""
    found: bytes = (described.metadata or {}).get(COMMENT.encode(), b"")
    return found.decode()
