"""Saves the Databricks credentials of the environment in a Prefect block. Shows no secret."""

import os
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect_databricks import DatabricksCredentials

from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.items import ABSENT, DIFFERS, Item

_FIELDS = ("databricks_instance", "token", "client_id", "client_secret", "tenant_id")
"""The fields of the block that hold credentials."""


def item(settings: Settings) -> Item:
    """The block that databricks.credentials names.

    Raises:
        SettingsError: it is not set, or the environment holds no credentials.
    """
    name = settings.databricks.credentials
    if name is None:
        raise SettingsError("databricks.credentials names no block: set it, for example to car-damage")
    from_environment()
    # Check and fix each read the environment, so that an item that is logged or printed holds no secret.
    return Item(f"block databricks-credentials/{name}", partial(_check, name), partial(_save, name))


def from_environment() -> dict[str, str]:
    """The block's fields, from the environment variables of databricks-sdk.

    Raises:
        SettingsError: they name no workspace, no way to authenticate, or more than one.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith(("DATABRICKS_", "ARM_")) and value}
    host = given.get("DATABRICKS_HOST", "")
    instance = urlsplit(host if "//" in host else f"https://{host}").netloc
    ways = [
        {"token": given.get("DATABRICKS_TOKEN")},
        {"client_id": given.get("DATABRICKS_CLIENT_ID"), "client_secret": given.get("DATABRICKS_CLIENT_SECRET")},
        {
            "client_id": given.get("ARM_CLIENT_ID"),
            "client_secret": given.get("ARM_CLIENT_SECRET"),
            "tenant_id": given.get("ARM_TENANT_ID"),
        },
    ]
    whole = [{name: value for name, value in way.items() if value} for way in ways if all(way.values())]
    if not instance or len(whole) != 1:
        raise SettingsError(
            f"the environment holds {len(whole) or 'no'} {'ways' if len(whole) > 1 else 'way'} to authenticate"
            f"{'' if instance else ' and no DATABRICKS_HOST'}, and the block needs exactly one: set DATABRICKS_HOST, and one of "
            "DATABRICKS_TOKEN; DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET; ARM_CLIENT_ID, ARM_CLIENT_SECRET and ARM_TENANT_ID"
        )
    return {"databricks_instance": instance, **whole[0]}


def _check(name: str) -> str | None:
    saved, wanted = _document(name), from_environment()
    if saved is None:
        return ABSENT
    different = [field for field in _FIELDS if saved.data.get(field) != wanted.get(field)]
    return f"{DIFFERS}{', '.join(different)}" if different else None


def _save(name: str) -> None:
    saved = _document(name)
    others = {field: value for field, value in (saved.data if saved else {}).items() if field == "client_kwargs"}
    DatabricksCredentials(**others, **from_environment()).save(name, overwrite=True)


def _document(name: str) -> Any:
    """The block on the server, valid or not; None if it does not exist."""
    with get_client(sync_client=True) as client:
        try:
            return client.read_block_document_by_name(name, "databricks-credentials", include_secrets=True)
        except ObjectNotFound:
            return None
