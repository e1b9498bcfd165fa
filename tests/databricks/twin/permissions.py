"""Permissions: owners and privileges in Unity Catalog, and access control lists for everything else.

Sources: https://docs.databricks.com/aws/en/data-governance/unity-catalog/manage-privileges/privileges,
https://docs.databricks.com/aws/en/data-governance/unity-catalog/manage-privileges/ownership,
https://docs.databricks.com/aws/en/security/auth/access-control/
"""

import threading
from collections.abc import Iterable
from pathlib import Path

from tests.databricks.twin.core import Core, Refused

CLIENT = "0b5e7a2c-service-principal"
"""Application id of the service principal."""
ADMIN = "admin@example.com"
"""Metastore admin, owner of the catalog, and admin of the workspace."""
OTHER = "analyst@example.com"
"""A user without any rights."""
EVERYONE = "account users"
PRINCIPALS = {CLIENT, ADMIN, OTHER, EVERYONE, "data-team"}
NAMES = {"function": "Registered Model"}
"""Registered models have the securable type FUNCTION (databricks-sdk, RegisteredModelsAPI)."""
LEVELS = {
    "jobs": ("CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"),
    "experiments": ("CAN_READ", "CAN_EDIT", "CAN_MANAGE"),
    "serving-endpoints": ("CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"),
}
"""Kind of object -> its permissions, from lowest to highest."""


class Permissions(Core):
    """Refuses callers without permission."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._asking = threading.local()
        self.pats: dict[str, str] = {}
        """Token -> its user."""
        self.environment: dict[str, str] = {}
        """Environment variables for a client of the service principal."""
        self.catalog = "insurance_uc"
        self.owners: dict[tuple[str, str], str] = {}
        """(kind, full name) -> owner. The service principal owns schemas and volumes that a test created on disk."""
        self.models: dict[str, str] = {}
        """Full name of a registered model -> its owner."""
        self.comments: dict[tuple[str, str], str] = {}
        """(kind, full name) -> comment."""
        self.grants: dict[tuple[str, str], dict[str, set[str]]] = {("catalog", self.catalog): {CLIENT: {"USE_CATALOG", "CREATE_SCHEMA"}}}
        """(kind, full name) -> principal -> privileges."""
        self.levels: dict[tuple[str, str], dict[str, str]] = {}
        """(kind, id) -> principal -> permission, for objects that are not securables."""
        self.service_principal_users = {ADMIN}
        """Users with the role Service Principal: User, who may let jobs run as the service principal."""

    @property
    def caller(self) -> str:
        """The user of the current request."""
        return getattr(self._asking, "name", CLIENT)

    @caller.setter
    def caller(self, name: str) -> None:
        self._asking.name = name

    def owner(self, kind: str, name: str) -> str:
        if kind == "function":
            return self.models[name]
        return self.owners.get((kind, name), ADMIN if kind == "catalog" else CLIENT)

    def effective(self, principal: str, kind: str, name: str) -> set[tuple[str, str, str]]:
        """(privilege, kind and name of the securable it was granted on). Ownership is not listed."""
        return {
            (privilege, above, whose)
            for above, whose in [(kind, name), *_above(name)]
            for privilege in self.grants.get((above, whose), {}).get(principal, set())
        }

    def has(self, kind: str, name: str, *privileges: str) -> bool:
        """Whether the caller owns the securable, or the caller or everyone was granted one of the privileges on it or a parent."""
        if self.owner(kind, name) in {self.caller, EVERYONE}:
            return True
        granted = {row[0] for principal in (self.caller, EVERYONE) for row in self.effective(principal, kind, name)}
        return bool(granted & {*privileges, "ALL_PRIVILEGES"})

    def manages(self, kind: str, name: str) -> bool:
        """Whether the caller may grant and change the owner: it owns the securable or a parent, is a metastore admin, or has MANAGE."""
        owners = {self.owner(above, whose) for above, whose in [(kind, name), *_above(name)]}
        granted = {row[0] for row in self.effective(self.caller, kind, name)}
        return self.caller == ADMIN or self.caller in owners or "MANAGE" in granted

    def need(self, kind: str, name: str, *privileges: str, administrators: bool = False) -> None:
        """Refuse a caller without one of the privileges, or without USE on a parent."""
        if administrators and self.caller == ADMIN:
            return
        for above, whose in reversed(_above(name)):
            if not self.has(above, whose, f"USE_{above.upper()}"):
                raise denied(f"USE {above.upper()}", above, whose)
        if not self.has(kind, name, *privileges):
            raise denied(privileges[0].replace("_", " "), kind, name)

    def level(self, kind: str, found: object) -> int:
        """The caller's permission on an object as an index in LEVELS, or -1 without any."""
        if self.caller == ADMIN:
            return len(LEVELS[kind])
        given = self.levels.get((kind, str(found)), {})
        return max((LEVELS[kind].index(given[name]) for name in (self.caller, EVERYONE) if name in given), default=-1)

    def need_level(self, kind: str, found: object, level: str) -> None:
        least = LEVELS[kind].index(level)
        if self.level(kind, found) < least:
            words = " or ".join(name.split("_", 1)[1].replace("_", " ").title() for name in LEVELS[kind][least:])
            raise Refused(
                403,
                "PERMISSION_DENIED",
                f"{self.caller} does not have {words} permissions on {kind[:-1]} {found}. "
                "Please contact the owner or an administrator for access.",
            )


def denied(privilege: str, kind: str, name: str) -> Refused:
    return Refused(403, "PERMISSION_DENIED", f"User does not have {privilege} on {NAMES.get(kind, kind.title())} '{name}'.")


def _above(name: str) -> list[tuple[str, str]]:
    """The parents of a securable, the nearest first."""
    parts = name.split(".")
    above: Iterable[tuple[str, str]] = [("schema", ".".join(parts[:2])), ("catalog", parts[0])]
    return [row for row in above if row[1] != name and len(row[1].split(".")) < len(parts)]
