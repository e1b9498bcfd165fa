"""Bootstrap and items that it cannot fix."""

import pytest

from car_damage.errors import SettingsError
from deployments.administrator import NeedsAdministrator, NotVisible
from deployments.items import Item, apply, bootstrap


def impossible() -> None:
    raise SettingsError("make the block first")


def broken(*, vital: bool) -> Item:
    return Item("letters", lambda: "is missing", impossible, vital=vital)


def test_what_a_run_can_do_without_is_told_and_the_rest_is_done() -> None:
    done: list[str] = []
    first, second = bootstrap([broken(vital=False), Item("pool", lambda: "is missing", lambda: done.append("pool"))])
    assert (first.unresolved, second.unresolved) == ("make the block first", None)
    assert done == ["pool"]


def test_what_a_run_needs_stops_it() -> None:
    with pytest.raises(SettingsError, match="make the block first"):
        bootstrap([broken(vital=True)])


def refused() -> None:
    raise NeedsAdministrator.to_run("GRANT SELECT ON SCHEMA a.b TO `c`;", "granting was refused")


def not_visible() -> str | None:
    raise NotVisible("reading this needs CAN MANAGE on it")


def nothing() -> None:
    pass


def test_what_cannot_be_put_right_stops_nothing_and_the_commands_for_it_come_last() -> None:
    lines: list[str] = []
    items = [
        Item("grants", lambda: "lack SELECT for c", refused),
        Item("grants again", lambda: "lack SELECT for c", refused),
        Item("job", lambda: "differs: x: 1 -> 0", nothing),
    ]
    assert not apply(items, dry_run=False, show=lines.append)
    assert lines == [
        "grants: granting was refused",
        "grants again: granting was refused",
        "job: differs: x: 1 -> 0: fixed",
        "An administrator must run these commands; then run bootstrap again:",
        "  GRANT SELECT ON SCHEMA a.b TO `c`;",
    ]


def test_what_cannot_be_seen_is_told_and_is_no_failure() -> None:
    lines: list[str] = []
    assert apply([Item("permissions", not_visible, impossible)], dry_run=False, show=lines.append)
    assert lines == ["permissions: reading this needs CAN MANAGE on it"]


def test_a_plan_is_a_diff_and_fixes_nothing() -> None:
    lines: list[str] = []
    items = [
        Item("schema", lambda: "is missing", impossible),
        Item("grants", lambda: "lack SELECT for c", impossible),
        Item("job", lambda: "differs: x: 1 -> 0", impossible),
        Item("limit", lambda: "allows 2 runs at once instead of 1", impossible),
        Item("pool", lambda: None, impossible),
        Item("permissions", not_visible, impossible),
    ]
    assert apply(items, dry_run=True, show=lines.append)
    assert lines == [
        "+ schema",
        "+ grants  SELECT for c",
        "~ job  x: 1 -> 0",
        "~ limit  allows 2 runs at once instead of 1",
        "= pool",
        "? permissions  reading this needs CAN MANAGE on it",
    ]
