"""What bootstrap makes of things that cannot be put right."""

import pytest

from car_damage.errors import SettingsError
from deployments.items import Item, bootstrap


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
