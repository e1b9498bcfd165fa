"""What bootstrap makes of things that cannot be put right."""

import pytest

from car_damage.errors import SettingsError
from deployments.administrator import NeedsAdministrator, Unseen
from deployments.items import Item, bootstrap, tell


def impossible() -> None:
    raise SettingsError("make the block first")


def broken(*, vital: bool) -> Item:
    return Item("letters", lambda: "is not there", impossible, vital=vital)


def test_what_a_run_can_do_without_is_told_and_the_rest_is_done() -> None:
    done: list[str] = []
    first, second = bootstrap([broken(vital=False), Item("pool", lambda: "is not there", lambda: done.append("pool"))])
    assert (first.left, second.left) == ("make the block first", None)
    assert done == ["pool"]


def test_what_a_run_needs_stops_it() -> None:
    with pytest.raises(SettingsError, match="make the block first"):
        bootstrap([broken(vital=True)])


def refused() -> None:
    raise NeedsAdministrator.to_run("GRANT SELECT ON SCHEMA a.b TO `c`;", "granting was refused")


def unseen() -> str | None:
    raise Unseen("who manages it sees whether it is so")


def nothing() -> None:
    pass


def test_what_cannot_be_put_right_stops_nothing_and_the_commands_for_it_come_last() -> None:
    lines: list[str] = []
    items = [
        Item("grants", lambda: "lack SELECT for c", refused),
        Item("grants again", lambda: "lack SELECT for c", refused),
        Item("job", lambda: "differs: x: 1 -> 0", nothing),
    ]
    assert not tell(items, dry_run=False, show=lines.append)
    assert lines == [
        "grants: granting was refused",
        "grants again: granting was refused",
        "job: differs: x: 1 -> 0: put right",
        "For an administrator to run, and then bootstrap again:",
        "  GRANT SELECT ON SCHEMA a.b TO `c`;",
    ]


def test_what_cannot_be_seen_is_told_and_is_no_failure() -> None:
    lines: list[str] = []
    assert tell([Item("permissions", unseen, impossible)], dry_run=False, show=lines.append)
    assert lines == ["permissions: who manages it sees whether it is so"]


def test_a_plan_is_a_diff_and_fixes_nothing() -> None:
    lines: list[str] = []
    items = [
        Item("schema", lambda: "is not there", impossible),
        Item("grants", lambda: "lack SELECT for c", impossible),
        Item("job", lambda: "differs: x: 1 -> 0", impossible),
        Item("limit", lambda: "allows 2 at once, not 1", impossible),
        Item("pool", lambda: None, impossible),
        Item("permissions", unseen, impossible),
    ]
    assert tell(items, dry_run=True, show=lines.append)
    assert lines == [
        "+ schema",
        "+ grants  SELECT for c",
        "~ job  x: 1 -> 0",
        "~ limit  allows 2 at once, not 1",
        "= pool",
        "? permissions  who manages it sees whether it is so",
    ]
