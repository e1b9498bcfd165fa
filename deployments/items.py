"""One thing that must be there before a flow can run: a look at it, and a fix.

`bootstrap` fixes what is wrong, so that a second run changes nothing; `doctor` only looks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One thing that must be there."""

    name: str
    look: Callable[[], str | None]
    """What is wrong, or None."""
    fix: Callable[[], None]
    vital: bool = True
    """Without it a run would not start, or fail."""


@dataclass(frozen=True)
class Result:
    """What became of an item."""

    name: str
    problem: str | None
    """What was wrong before the fix."""


def bootstrap(items: Sequence[Item]) -> list[Result]:
    """Fix what is wrong; return what was looked at."""
    results = []
    for item in items:
        problem = item.look()
        if problem is not None:
            item.fix()
        results.append(Result(item.name, problem))
    return results
