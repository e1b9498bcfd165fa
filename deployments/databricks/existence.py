"""Checks whether an object exists in Databricks, and creates it once although responses may get lost."""

from collections.abc import Callable
from typing import Any

from car_damage.adapters.databricks import workspace
from deployments.administrator import permitted
from deployments.items import ABSENT, Item


def create_once(create: Callable[[], Any]) -> None:
    """Create an object. Ignores that it already exists, because an earlier try of this call may have created it and lost the response."""
    from databricks.sdk.errors import DatabricksError

    try:
        create()
    except DatabricksError as error:
        if "ALREADY_EXISTS" not in (error.error_code or ""):
            raise


def absent(doing: str, needs: str, read: Callable[[], Any]) -> str | None:
    """The problem if `read` raises NotFound, otherwise None."""
    from databricks.sdk.errors import NotFound

    with workspace.translated(doing, needs=needs):
        try:
            read()
        except NotFound:
            return ABSENT
    return None


def creatable(  # noqa: PLR0917 - two calls, each with the permission that it needs
    thing: str, read: Callable[[], Any], read_needs: str, create: Callable[[], Any], create_needs: str, command: str
) -> Item:
    """An item that reads an object and creates it if it is missing.

    Args:
        thing: kind and name of the object.
        read: raises NotFound if the object does not exist.
        read_needs: the permission that `read` needs.
        create: creates the object.
        create_needs: the permission that `create` needs.
        command: creates the object; for somebody who has that permission.
    """

    def fix() -> None:
        with permitted(f"creating the {thing}", needs=create_needs, command=command):
            create_once(create)

    return Item(thing, lambda: absent(f"reading the {thing}", read_needs, read), fix)
