"""The columns of a model's answer that depend on the classes: one probability for each class, and the classes that it cannot exclude.

Every registered model contains a copy of this module, so it imports nothing.
"""

from collections.abc import Mapping
from typing import Any

_PREFIX = "probability_"


def probability_column(label: str) -> str:
    """The column that has the probability of a class."""
    return f"{_PREFIX}{label}"


def probabilities(row: Mapping[str, Any]) -> dict[str, float]:
    """Class -> probability, from a row that has a `probability_column` for each class, in the order of the columns."""
    return {name.removeprefix(_PREFIX): float(value) for name, value in row.items() if name.startswith(_PREFIX)}


def may_be(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes that cannot be excluded; None: the model of an earlier release does not say."""
    return None if row.get("classes") is None else tuple(map(str, row["classes"]))
