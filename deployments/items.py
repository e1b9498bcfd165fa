"""One thing that must be there before a flow can run: a look at it, and a fix.

`bootstrap` fixes what is wrong, so that a second run changes nothing; `doctor` only looks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from car_damage.errors import CarDamageError, SettingsError
from deployments.administrator import NeedsAdministrator, Unseen

ABSENT = "is not there"
LACK, DIFFERS = "lack ", "differs: "
"""How problems begin that a plan shows as lines of a diff."""


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
    unseen: str | None = None
    """Why nobody can say whether something is wrong."""


def bootstrap(items: Sequence[Item]) -> list[Result]:
    """Fix what is wrong; return what was looked at.

    Raises:
        SettingsError: a vital item cannot be put right as the settings are.
    """
    return [mend(item) for item in items]


def plan(item: Item) -> Result:
    """What `mend` would do; nothing is changed."""
    try:
        return Result(item.name, item.look())
    except Unseen as error:
        return Result(item.name, None, unseen=str(error))


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
    except Unseen as error:
        return Result(item.name, None, unseen=str(error))
    except SettingsError as error:
        if item.vital:
            raise
        return Result(item.name, problem or str(error), str(error))
    return Result(item.name, problem)


def tell(items: Sequence[Item], *, dry_run: bool, show: Callable[[str], None] = print) -> bool:
    """Fix what is wrong, or with `dry_run` show it as a diff, one line an item; whether all is then as it should be or can be made so.

    What cannot be fixed stops nothing. The commands that somebody with more rights has to run are shown once more at the end.
    """
    work, line = (plan, _diff) if dry_run else (mend, _done)
    well, commands = True, []
    for item in items:
        try:
            result = work(item)
        except CarDamageError as error:
            well = False
            show(f"! {item.name}  {error}" if dry_run else f"{item.name}: {error}")
            if isinstance(error, NeedsAdministrator):
                commands.append(error.command)
            continue
        well = well and result.left is None
        show(line(result))
    if commands:
        show("For an administrator to run, and then bootstrap again:")
        for command in dict.fromkeys(commands):
            show(f"  {command}")
    return well


def _done(result: Result) -> str:
    put_right = "as it should be" if result.problem is None else f"{result.problem}: put right"
    return f"{result.name}: {result.left or result.unseen or put_right}"


def _diff(result: Result) -> str:
    """`+` what would be made or added, `~` what would be changed, `=` what is as it should be, `?` what cannot be seen."""
    problem = result.problem
    if problem is None:
        return f"? {result.name}  {result.unseen}" if result.unseen else f"= {result.name}"
    if problem == ABSENT:
        return f"+ {result.name}"
    if problem.startswith(LACK):
        return f"+ {result.name}  {problem.removeprefix(LACK)}"
    return f"~ {result.name}  {problem.removeprefix(DIFFERS)}"
