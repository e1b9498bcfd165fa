"""The identity of the service in a Databricks workspace: its service principal, or whoever runs this command."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from car_damage.adapters.databricks import workspace
from car_damage.settings import Settings

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

Api: TypeAlias = "Callable[[], WorkspaceClient]"
"""Returns the workspace client. A function, so that missing credentials fail at the first call and not earlier."""
EVERYONE = "account users"
"""The group of all of the account's users and service principals."""


@dataclass(frozen=True)
class Principal:
    """The identity that the service runs as."""

    name: str
    """Application id of a service principal, or name of a user."""
    caller: str
    """The identity of this process' credentials."""
    groups: tuple[str, ...]
    """Groups whose privileges it has, as far as they are known."""

    @property
    def is_caller(self) -> bool:
        """Whether the service runs as the caller, and so owns what the caller creates."""
        return self.name == self.caller

    @property
    def kind(self) -> str:
        """The field of an access control list that names it."""
        return "user_name" if "@" in self.name else "service_principal_name"


Who: TypeAlias = Callable[[], Principal]
"""Returns the principal, which takes a call to the workspace."""


def principal(api: Api, settings: Settings) -> Principal:
    """Read the caller's identity from the workspace.

    Raises:
        RequestRefused, Unavailable: as `workspace.translated`.
    """
    with workspace.translated("reading the identity of the credentials", needs="that they belong to this workspace"):
        # The user name of a service principal is its application id.
        me = api().current_user.me()
    caller = str(me.user_name)
    name = settings.databricks.service_principal or caller
    groups = [str(group.display) for group in me.groups or [] if group.display] if name == caller else []
    return Principal(name, caller, (*groups, EVERYONE))
