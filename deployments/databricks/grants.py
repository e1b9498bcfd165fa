"""The privileges of the service's principal in Unity Catalog: checked and granted, never revoked.

Source: https://docs.databricks.com/aws/en/data-governance/unity-catalog/manage-privileges/privileges
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from car_damage.adapters.databricks import workspace
from car_damage.settings import Settings
from deployments.administrator import permitted, quoted
from deployments.databricks import unity_catalog
from deployments.databricks.principal import Api, Principal, Who
from deployments.items import DIFFERS, LACK, Item

MANAGE = "ownership of it, or MANAGE on it"
"""What reading and changing grants needs."""


@dataclass(frozen=True)
class RequiredPrivileges:
    """The privileges that the service needs on one securable."""

    kind: str
    """catalog | schema | volume"""
    name: str
    privileges: tuple[str, ...]
    """Names of the API; SQL has a space for each underscore."""


def required(settings: Settings) -> list[RequiredPrivileges]:
    """The privileges without which a run would fail, and no others.

    Tables and the registered model need none, because the principal owns them.
    """
    found = [RequiredPrivileges("catalog", name, ("USE_CATALOG",)) for name in unity_catalog.catalogs(settings)]
    with_tables = {name.rpartition(".")[0] for name in unity_catalog.tables(settings)}
    with_model = {name.rpartition(".")[0] for name in unity_catalog.models(settings)}
    for name in unity_catalog.schemas(settings):
        tables = ("CREATE_TABLE", "SELECT", "MODIFY") if name in with_tables else ()
        found.append(RequiredPrivileges("schema", name, ("USE_SCHEMA", *tables, *(("CREATE_MODEL",) if name in with_model else ()))))
    read = [*unity_catalog.landing(settings), *unity_catalog.backbones(settings)]
    found += [RequiredPrivileges("volume", name, ("READ_VOLUME",)) for name in read]
    return found + [RequiredPrivileges("volume", name, ("READ_VOLUME", "WRITE_VOLUME")) for name in unity_catalog.volumes(settings)]


def items(settings: Settings, api: Api, who: Who) -> list[Item]:
    """The privileges that the principal must have, and the registered model that it must own.

    Raises:
        SettingsError: a setting must name a folder on a volume and does not.
    """
    return [
        *(
            Item(f"grants on {one.kind} {one.name}", partial(_check, api, who, one), partial(_grant, api, who, one))
            for one in required(settings)
        ),
        *(
            Item(f"owner of registered model {name}", partial(_check_owner, api, who, name), partial(_set_owner, api, who, name))
            for name in unity_catalog.models(settings)
        ),
    ]


def _check(api: Api, who: Who, one: RequiredPrivileges) -> str | None:
    lacking = _lacking(api, who(), one)
    return f"{LACK}{_in_words(lacking)} for {who().name}" if lacking else None


def _grant(api: Api, who: Who, one: RequiredPrivileges) -> None:
    from databricks.sdk.service.catalog import PermissionsChange, Privilege

    lacking = _lacking(api, who(), one)
    change = PermissionsChange(principal=who().name, add=[Privilege(privilege) for privilege in lacking])
    doing = f"granting {_in_words(lacking)} on the {one.kind} {one.name}"
    with permitted(doing, needs=MANAGE, command=_sql(one, lacking, who())):
        api().grants.update(one.kind, one.name, changes=[change])


def _lacking(api: Api, who: Principal, one: RequiredPrivileges) -> list[str]:
    """The required privileges that the principal has neither itself, nor from a group, nor by inheritance."""
    from databricks.sdk.errors import NotFound

    with permitted(f"reading the grants on the {one.kind} {one.name}", needs=MANAGE, command=_sql(one, one.privileges, who)):
        try:
            if _owner(api, one) in {who.name, *who.groups}:
                return []
            has = _effective(api, one, who.name)
        except NotFound:  # the caller will own what it creates
            return [] if who.is_caller else list(one.privileges)
    for group in who.groups:
        if not _without(one, has):
            break
        has |= _of_group(api, one, group)
    return _without(one, has)


def _without(one: RequiredPrivileges, has: set[str]) -> list[str]:
    return [] if "ALL_PRIVILEGES" in has else [privilege for privilege in one.privileges if privilege not in has]


def _owner(api: Api, one: RequiredPrivileges) -> str | None:
    """The owner, who has every privilege without a grant; None if the caller may not see who that is."""
    from databricks.sdk.errors import PermissionDenied

    ways: dict[str, Callable[[], Any]] = {
        "catalog": lambda: api().catalogs.get(one.name),
        "schema": lambda: api().schemas.get(one.name),
        "volume": lambda: api().volumes.read(one.name),
    }
    try:
        owner: str | None = ways[one.kind]().owner
    except PermissionDenied:
        return None
    return owner


def _effective(api: Api, one: RequiredPrivileges, name: str) -> set[str]:
    found: set[str] = set()
    token = None
    while True:
        page = api().grants.get_effective(one.kind, one.name, principal=name, max_results=0, page_token=token)
        for assignment in page.privilege_assignments or []:
            found |= {given.privilege.value for given in assignment.privileges or [] if given.privilege}
        token = page.next_page_token
        if not token:
            return found


def _of_group(api: Api, one: RequiredPrivileges, group: str) -> set[str]:
    """The group's privileges; empty for a workspace group, which Unity Catalog does not know, and for one that the caller may not see."""
    from databricks.sdk.errors import BadRequest, NotFound, PermissionDenied

    with workspace.translated(f"reading the grants of {group} on the {one.kind} {one.name}", needs="MANAGE on it"):
        try:
            return _effective(api, one, group)
        except (BadRequest, NotFound, PermissionDenied):
            return set()


def _in_words(privileges: Sequence[str]) -> str:
    return ", ".join(privilege.replace("_", " ") for privilege in privileges)


def _sql(one: RequiredPrivileges, privileges: Sequence[str], who: Principal) -> str:
    return f"GRANT {_in_words(privileges)} ON {one.kind.upper()} {quoted(one.name)} TO `{who.name}`;"


def _check_owner(api: Api, who: Who, name: str) -> str | None:
    """The principal must own the model, because only the owner may set aliases and create versions."""
    from databricks.sdk.errors import NotFound

    with workspace.translated(f"reading the registered model {name}", needs="EXECUTE on it"):
        try:
            owner = api().registered_models.get(name).owner
        except NotFound:
            return None if who().is_caller else f"{DIFFERS}{who().caller} -> {who().name}"
    return None if owner == who().name or owner in who().groups else f"{DIFFERS}{owner} -> {who().name}"


def _set_owner(api: Api, who: Who, name: str) -> None:
    command = f"databricks registered-models update {name} --owner {who().name}"
    with permitted(f"making {who().name} the owner of the registered model {name}", needs="ownership of it", command=command):
        api().registered_models.update(name, owner=who().name)
