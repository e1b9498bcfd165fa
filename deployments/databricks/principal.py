"""Whom the service works as in a Databricks workspace: its own service principal, or whoever runs this."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from car_damage.adapters.databricks import workspace
from car_damage.settings import Settings

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

EVERYONE = "account users"
"""The group of all of the account's users and service principals."""


@dataclass(frozen=True)
class Principal:
    """Whom the service works as."""

    name: str
    """Application id of a service principal, or a user's name."""
    caller: str
    """Who asks."""
    groups: tuple[str, ...]
    """Groups whose privileges it has, as far as that is known."""

    @property
    def is_caller(self) -> bool:
        """Whether what the caller makes is its own."""
        return self.name == self.caller

    @property
    def kind(self) -> str:
        """How lists of permissions call it."""
        return "user_name" if "@" in self.name else "service_principal_name"


def principal(api: "Callable[[], WorkspaceClient]", settings: Settings) -> Principal:
    """Ask the workspace who asks.

    Raises:
        RequestRefused, Unavailable: as `workspace.translated`.
    """
    with workspace.translated("asking whose the credentials are", needs="that they are of this workspace"):
        # Of a service principal the user name is its application id.
        me = api().current_user.me()
    caller = str(me.user_name)
    name = settings.databricks.service_principal or caller
    groups = [str(group.display) for group in me.groups or [] if group.display] if name == caller else []
    return Principal(name, caller, (*groups, EVERYONE))
