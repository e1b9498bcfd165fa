"""Who may do what: owners and privileges of Unity Catalog, and the lists of permissions of everything else.

Sources: https://docs.databricks.com/aws/en/data-governance/unity-catalog/manage-privileges/privileges,
https://docs.databricks.com/aws/en/data-governance/unity-catalog/manage-privileges/ownership,
https://docs.databricks.com/aws/en/security/auth/access-control/
"""

import threading
from collections.abc import Iterable
from pathlib import Path

from tests.databricks.twin.core import Core, Refused

CLIENT = "0b5e7a2c-service-principal"
"""The service principal, by its application id."""
ADMIN = "admin@example.com"
"""Metastore admin, owner of the catalog, and admin of the workspace."""
OTHER = "analyst@example.com"
"""A user without any rights."""
EVERYONE = "account users"
PRINCIPALS = {CLIENT, ADMIN, OTHER, EVERYONE, "data-team"}
NAMES = {"function": "Registered Model"}
"""Models have the securable type FUNCTION (databricks-sdk, RegisteredModelsAPI)."""
LEVELS = {
    "jobs": ("CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"),
    "experiments": ("CAN_READ", "CAN_EDIT", "CAN_MANAGE"),
    "serving-endpoints": ("CAN_VIEW", "CAN_QUERY", "CAN_MANAGE"),
}
"""Kind of object -> its permissions, from the least to the most."""


class Permissions(Core):
    """The part of the twin that refuses."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._asking = threading.local()
        self.pats: dict[str, str] = {}
        """Token -> whose it is."""
        self.environment: dict[str, str] = {}
        """What a client of the service principal needs."""
        self.catalog = "insurance_uc"
        self.owners: dict[tuple[str, str], str] = {}
        """(kind, full name) -> who made it; schemas and volumes that a test made on disk are the service principal's."""
        self.models: dict[str, str] = {}
        """Full name of a registered model -> its owner."""
        self.grants: dict[tuple[str, str], dict[str, set[str]]] = {("catalog", self.catalog): {CLIENT: {"USE_CATALOG", "CREATE_SCHEMA"}}}
        """(kind, full name) -> principal -> privileges."""
        self.levels: dict[tuple[str, str], dict[str, str]] = {}
        """(kind, id) -> principal -> permission, of what is no securable."""
        self.service_principal_users = {ADMIN}
        """Who has the role Service Principal: User on the service principal, as which it may then let jobs run."""

    @property
    def caller(self) -> str:
        """Who asks."""
        return getattr(self._asking, "name", CLIENT)

    @caller.setter
    def caller(self, name: str) -> None:
        self._asking.name = name

    def owner(self, kind: str, name: str) -> str:
        if kind == "function":
            return self.models[name]
        return self.owners.get((kind, name), ADMIN if kind == "catalog" else CLIENT)

    def effective(self, principal: str, kind: str, name: str) -> set[tuple[str, str, str]]:
        """(privilege, kind and name of the securable that it was granted on). That somebody owns it is in no listing."""
        return {
            (privilege, above, whose)
            for above, whose in [(kind, name), *_above(name)]
            for privilege in self.grants.get((above, whose), {}).get(principal, set())
        }

    def has(self, kind: str, name: str, *privileges: str) -> bool:
        """Whether the caller has one of the privileges: as the owner, or granted to it or to everyone, there or above."""
        if self.owner(kind, name) in {self.caller, EVERYONE}:
            return True
        granted = {row[0] for principal in (self.caller, EVERYONE) for row in self.effective(principal, kind, name)}
        return bool(granted & {*privileges, "ALL_PRIVILEGES"})

    def manages(self, kind: str, name: str) -> bool:
        """Whether the caller may grant, and hand over: the owner of it or of what it is in, a metastore admin, or by MANAGE."""
        owners = {self.owner(above, whose) for above, whose in [(kind, name), *_above(name)]}
        granted = {row[0] for row in self.effective(self.caller, kind, name)}
        return self.caller == ADMIN or self.caller in owners or "MANAGE" in granted

    def need(self, kind: str, name: str, *privileges: str, administrators: bool = False) -> None:
        """Refuse the caller who may not, be it for what it is in."""
        if administrators and self.caller == ADMIN:
            return
        for above, whose in reversed(_above(name)):
            if not self.has(above, whose, f"USE_{above.upper()}"):
                raise denied(f"USE {above.upper()}", above, whose)
        if not self.has(kind, name, *privileges):
            raise denied(privileges[0].replace("_", " "), kind, name)

    def level(self, kind: str, found: object) -> int:
        """How much the caller may do with an object: the index in LEVELS of its permission, or -1."""
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
    """What it is in, the nearest first."""
    parts = name.split(".")
    above: Iterable[tuple[str, str]] = [("schema", ".".join(parts[:2])), ("catalog", parts[0])]
    return [row for row in above if row[1] != name and len(row[1].split(".")) < len(parts)]
