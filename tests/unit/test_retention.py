"""A table's retention is its owner's: after a photo was forgotten it is as it was, also when the work in between fails."""

import re
from contextlib import suppress

import pytest

from car_damage.adapters.tables.retention import KEPT, OWNERS, nothing_kept


class Table:
    """The properties of a table, as SQL changes them."""

    def __init__(self, **properties: str) -> None:
        self.properties = properties

    def run(self, statement: str) -> list[dict[str, str]]:
        if " UNSET " in statement:
            for key in re.findall(r"'([^']+)'", statement):
                del self.properties[key]
        elif " SET " in statement:
            self.properties |= dict(re.findall(r"'([^']+)' = '([^']+)'", statement))
        return [{"key": key, "value": value} for key, value in self.properties.items()]


OWNED = {KEPT: "interval 3 days", "delta.other": "1"}


@pytest.mark.parametrize("before", [OWNED, {"delta.other": "1"}])
@pytest.mark.parametrize("fails", [False, True])
def test_the_retention_is_nothing_in_between_and_afterwards_its_owner_s(before: dict[str, str], fails: bool) -> None:
    table = Table(**before)
    with suppress(TimeoutError), nothing_kept("t", table.run):
        assert table.properties[KEPT] == "interval 0 hours"
        if fails:
            raise TimeoutError
    assert table.properties == before


@pytest.mark.parametrize(("owners", "before"), [("interval 3 days", OWNED), ("none", {"delta.other": "1"})])
def test_what_a_killed_call_has_left_is_mended_by_the_next_one(owners: str, before: dict[str, str]) -> None:
    table = Table(**{"delta.other": "1", KEPT: "interval 0 hours", OWNERS: owners})
    with nothing_kept("t", table.run):
        pass
    assert table.properties == before
