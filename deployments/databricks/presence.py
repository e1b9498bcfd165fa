"""Whether something is there, and making it once though answers get lost: of everything that Databricks has."""

from collections.abc import Callable
from typing import Any

from car_damage.adapters.databricks import workspace
from deployments.items import ABSENT


def once(make: Callable[[], Any]) -> None:
    """Make something that may have been made by the same call, whose answer was lost."""
    from databricks.sdk.errors import DatabricksError

    try:
        make()
    except DatabricksError as error:
        if "ALREADY_EXISTS" not in (error.error_code or ""):
            raise


def absent(doing: str, needs: str, look: Callable[[], Any]) -> str | None:
    """What is wrong if the look finds nothing."""
    from databricks.sdk.errors import NotFound

    with workspace.translated(doing, needs=needs):
        try:
            look()
        except NotFound:
            return ABSENT
    return None
