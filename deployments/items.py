"""One thing that must exist before a flow can run, with a check and a fix.

`bootstrap` fixes what is wrong, so a second run changes nothing; `doctor` only checks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from car_damage.errors import CarDamageError, SettingsError
from deployments.administrator import NeedsAdministrator, NotVisible

ABSENT = "is missing"
LACK, DIFFERS = "lack ", "differs: "
"""Prefixes of problems that a plan shows as lines of a diff."""


@dataclass(frozen=True)
class Item:
    """One thing that must exist."""

    name: str
    check: Callable[[], str | None]
    """Returns what is wrong, or None."""
    fix: Callable[[], None]
    vital: bool = True
    """Whether a run needs it to start or to succeed."""


@dataclass(frozen=True)
class Result:
    """The result of checking or fixing an item."""

    name: str
    problem: str | None
    """What was wrong before the fix."""
    unresolved: str | None = None
    """Why it is still wrong, and what to do. Only for items that are not vital."""
    not_visible: str | None = None
    """Why the check could not find out whether it is right."""


def bootstrap(items: Sequence[Item]) -> list[Result]:
    """Fix what is wrong; return a result for each item.

    Raises:
        SettingsError: a vital item cannot be fixed with these settings.
    """
    return [fix(item) for item in items]


def plan(item: Item) -> Result:
    """Check an item and change nothing."""
    try:
        return Result(item.name, item.check())
    except NotVisible as error:
        return Result(item.name, None, not_visible=str(error))


def fix(item: Item) -> Result:
    """Fix one item if it is wrong.

    Raises:
        SettingsError: the item is vital and cannot be fixed with these settings, or an administrator can fix it.
    """
    problem = None
    try:
        problem = item.check()
        if problem is not None:
            item.fix()
    except NotVisible as error:
        return Result(item.name, None, not_visible=str(error))
    except SettingsError as error:
        if item.vital or isinstance(error, NeedsAdministrator):
            raise
        return Result(item.name, problem or str(error), str(error))
    return Result(item.name, problem)


def apply(items: Sequence[Item], *, dry_run: bool, show: Callable[[str], None] = print) -> bool:
    """Fix every item and show one line for each; with `dry_run` only show what would change, as a diff.

    An item that cannot be fixed does not stop the others. The commands that need an administrator are listed again at the end.

    Returns:
        Whether every item is right or can be fixed.
    """
    work, line = (plan, _diff_line) if dry_run else (fix, _line)
    success, commands = True, []
    for item in items:
        try:
            result = work(item)
        except CarDamageError as error:
            success = False
            show(f"! {item.name}  {error}" if dry_run else f"{item.name}: {error}")
            if isinstance(error, NeedsAdministrator):
                commands.append(error.command)
            continue
        success = success and result.unresolved is None
        show(line(result))
    if commands:
        show("An administrator must run these commands; then run bootstrap again:")
        for command in dict.fromkeys(commands):
            show(f"  {command}")
    return success


def _line(result: Result) -> str:
    state = "ok" if result.problem is None else f"{result.problem}: fixed"
    return f"{result.name}: {result.unresolved or result.not_visible or state}"


def _diff_line(result: Result) -> str:
    """`+` would be created or added, `~` would be changed, `=` is right, `?` is not visible to the caller."""
    problem = result.problem
    if problem is None:
        return f"? {result.name}  {result.not_visible}" if result.not_visible else f"= {result.name}"
    if problem == ABSENT:
        return f"+ {result.name}"
    if problem.startswith(LACK):
        return f"+ {result.name}  {problem.removeprefix(LACK)}"
    return f"~ {result.name}  {problem.removeprefix(DIFFERS)}"
