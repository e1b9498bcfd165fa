"""The time for which a table of a catalog keeps removed files, which is its owner's. To forget a photo it is set to nothing for a moment.

The owner's value waits in a property beside it, written in the same commit. So a call that was killed in between is mended by the next.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from car_damage.adapters.tables.spark_work import literal

KEPT, OWNERS = "delta.deletedFileRetentionDuration", "car_damage.retention"
_NONE = "none"
"""What the second property says of a table whose owner has not set the first one."""

Run = Callable[[str], Sequence[Any]]
"""Runs a statement, and returns its rows."""


@contextmanager
def nothing_kept(name: str, run: Run) -> Iterator[None]:
    """In its block, removed files may go at once.

    Args:
        name: of the table, in SQL.
        run: in a session with rights to alter the table.
    """
    _put_back(name, run)
    owners = _properties(name, run).get(KEPT, _NONE)
    run(f"ALTER TABLE {name} SET TBLPROPERTIES ('{KEPT}' = 'interval 0 hours', '{OWNERS}' = {literal(owners)})")
    try:
        yield
    finally:
        _put_back(name, run)


def _put_back(name: str, run: Run) -> None:
    """Put the owner's value back, if that is due."""
    if (owners := _properties(name, run).get(OWNERS)) is None:
        return
    if owners != _NONE:
        run(f"ALTER TABLE {name} SET TBLPROPERTIES ('{KEPT}' = {literal(owners)})")
    over = (OWNERS,) if owners != _NONE else (KEPT, OWNERS)
    run(f"ALTER TABLE {name} UNSET TBLPROPERTIES ({', '.join(map(repr, over))})")


def _properties(name: str, run: Run) -> dict[str, str]:
    return {row["key"]: row["value"] for row in run(f"SHOW TBLPROPERTIES {name}")}
