"""The Prefect block with the workspace's credentials, made of those in the environment. No secret is shown."""

import os
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.items import ABSENT, DIFFERS, Item

_FIELDS = ("databricks_instance", "token", "client_id", "client_secret", "tenant_id")
"""What of the block is credentials."""


def item(settings: Settings) -> Item:
    """The block that databricks.credentials names.

    Raises:
        SettingsError: it names none, or the environment holds no credentials.
    """
    name = settings.databricks.credentials
    if name is None:
        raise SettingsError("databricks.credentials names no block: set it, to car-damage for one")
    from_environment()
    # Each reads for itself, so that an item which is logged or shown holds no secret.
    return Item(f"block databricks-credentials/{name}", partial(_look, name), partial(_write, name))


def from_environment() -> dict[str, str]:
    """The block's fields, of the variables that databricks-sdk knows.

    Raises:
        SettingsError: they name no workspace, or no way to authenticate, or two.
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
            f"{'' if instance else ' and no DATABRICKS_HOST'}, and the block takes one of one workspace: set DATABRICKS_HOST, and one of "
            "DATABRICKS_TOKEN; DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET; ARM_CLIENT_ID, ARM_CLIENT_SECRET and ARM_TENANT_ID"
        )
    return {"databricks_instance": instance, **whole[0]}


def _look(name: str) -> str | None:
    there, wanted = _document(name), from_environment()
    if there is None:
        return ABSENT
    different = [field for field in _FIELDS if there.data.get(field) != wanted.get(field)]
    return f"{DIFFERS}{', '.join(different)}" if different else None


def _write(name: str) -> None:
    from prefect_databricks import DatabricksCredentials

    there = _document(name)
    others = {field: value for field, value in (there.data if there else {}).items() if field == "client_kwargs"}
    DatabricksCredentials(**others, **from_environment()).save(name, overwrite=True)


def _document(name: str) -> Any:
    """As it is on the server, whether or not it would do."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return client.read_block_document_by_name(name, "databricks-credentials", include_secrets=True)
        except ObjectNotFound:
            return None
