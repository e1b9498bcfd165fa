"""Conditions on rows as SQL that all engines take."""

from collections.abc import Callable
from datetime import UTC

from car_damage.ports import Where


def sql(where: Where | None, quoted: Callable[[str], str], literal: Callable[[str], str]) -> str:
    """The condition.

    Args:
        where: which rows; None: all.
        quoted: a name as the engine takes it.
        literal: a text as the engine takes it.
    """
    if where is None:
        return "TRUE"
    column, bounds = quoted(where.column), {">=": where.least, "<=": where.most}
    parts = [f"{column} {sign} TIMESTAMP '{bound.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}Z'" for sign, bound in bounds.items() if bound]
    if where.among is not None:
        parts.append(f"{column} IN ({', '.join(map(literal, where.among))})" if where.among else "FALSE")
    return " AND ".join(parts) or "TRUE"
