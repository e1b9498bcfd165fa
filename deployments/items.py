"""One thing that must be there before a flow can run: a look at it, and a fix.

`bootstrap` fixes what is wrong, so that a second run changes nothing; `doctor` only looks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from car_damage.errors import SettingsError


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
    left: str | None = None
    """Why it is wrong still, and what to do: of an item that is not vital only."""


def bootstrap(items: Sequence[Item]) -> list[Result]:
    """Fix what is wrong; return what was looked at.

    Raises:
        SettingsError: a vital item cannot be put right as the settings are.
    """
    return [mend(item) for item in items]


def plan(item: Item) -> Result:
    """What `mend` would do; nothing is changed."""
    return Result(item.name, item.look())


def mend(item: Item) -> Result:
    """Fix one item if it is wrong.

    Raises:
        SettingsError: it is vital, and cannot be put right as the settings are.
    """
    problem = None
    try:
        problem = item.look()
        if problem is not None:
            item.fix()
    except SettingsError as error:
        if item.vital:
            raise
        return Result(item.name, problem or str(error), str(error))
    return Result(item.name, problem)
