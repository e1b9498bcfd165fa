"""Checks whether an object exists in Databricks, and creates it once although responses may get lost."""

from collections.abc import Callable
from typing import Any

from car_damage.adapters.databricks import workspace
from deployments.items import ABSENT


def create_once(create: Callable[[], Any]) -> None:
    """Create an object. That it already exists is no error: an earlier try of this call may have created it and lost the response."""
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
