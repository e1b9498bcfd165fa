"""The catalogs, schemas, volumes and the registered model that must exist in Unity Catalog."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.administrator import permitted, quoted
from deployments.databricks.existence import absent, create_once
from deployments.items import ABSENT, Item

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient


def items(settings: Settings, api: "Callable[[], WorkspaceClient]") -> list[Item]:
    """What must exist, in the order in which it must be created."""
    every = [*landing(settings), *volumes(settings)]
    return [
        *(Item(f"catalog {name}", partial(_check_catalog, api, name), _nothing) for name in catalogs(settings)),
        *(Item(f"schema {name}", partial(_check_schema, api, name), partial(_create_schema, api, name)) for name in schemas(settings)),
        *(Item(f"volume {name}", partial(_check_volume, api, name), partial(_create_volume, api, name)) for name in every),
        *(
            Item(f"folder {folder}", partial(_check_folder, api, folder), partial(_create_folder, api, folder))
            for folder in [settings.landing.folder]
            if landing(settings) and len(Path(folder).parts) > 5
        ),
        *(
            Item(f"registered model {name}", partial(_check_model, api, name), partial(_create_model, api, name))
            for name in models(settings)
        ),
    ]


def catalogs(settings: Settings) -> list[str]:
    """The catalogs of all schemas of the service."""
    return list(dict.fromkeys(name.partition(".")[0] for name in schemas(settings)))


def schemas(settings: Settings) -> list[str]:
    """catalog.schema of all tables, volumes and models that the service reads or writes."""
    named = [*landing(settings), *tables(settings), settings.tracking.model, *volumes(settings)]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in named))


def tables(settings: Settings) -> list[str]:
    """catalog.schema.table of the tables that the jobs and the endpoint create."""
    inference = settings.serving.inference_table
    return [settings.tables.bronze, settings.tables.silver, settings.tables.predictions, *([inference] if inference else [])]


def volumes(settings: Settings) -> list[str]:
    """catalog.schema.volume of the volumes that the service writes to.

    Raises:
        SettingsError: a setting must name a folder on a volume and does not.
    """
    found = []
    for setting in ("handovers", "wheels"):
        folder = getattr(settings.databricks, setting)
        volume = volume_of(folder)
        if volume is None:
            raise SettingsError(f"databricks.{setting} is {folder}; it must lie on a volume: /Volumes/catalog/schema/volume/...")
        found.append(volume)
    return list(dict.fromkeys(found))


def landing(settings: Settings) -> list[str]:
    """The volume of the landing folder, if it lies on one. The service only reads it: it belongs to the data team."""
    volume = volume_of(settings.landing.folder)
    return [volume] if volume and volume not in volumes(settings) else []


def models(settings: Settings) -> list[str]:
    """The registered model, if the registry is Unity Catalog's."""
    return [settings.tracking.model] if settings.registry_uri.startswith("databricks-uc") else []


def volume_of(folder: str) -> str | None:
    """catalog.schema.volume of a folder; None if it does not lie on a volume."""
    parts = Path(folder).parts
    return ".".join(parts[2:5]) if folder.startswith("/Volumes/") and len(parts) >= 5 else None


def _check_catalog(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    if absent(f"reading the catalog {name}", "USE CATALOG on it", lambda: api().catalogs.get(name)):
        raise SettingsError(f"the catalog {name} {ABSENT}: let an administrator create it, or name another one in the settings")
    return None


def _nothing() -> None:
    """There is no fix: the check itself refuses a missing catalog, so that a plan and doctor refuse it too."""


def _check_schema(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return absent(f"reading the schema {name}", "USE SCHEMA on it", lambda: api().schemas.get(name))


def _create_schema(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    catalog, _, schema = name.partition(".")
    needs, command = f"CREATE SCHEMA on the catalog {catalog}", f"CREATE SCHEMA {quoted(name)};"
    with permitted(f"creating the schema {name}", needs=needs, command=command):
        create_once(lambda: api().schemas.create(schema, catalog))


def _check_volume(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return absent(f"reading the volume {name}", "READ VOLUME on it", lambda: api().volumes.read(name))


def _create_volume(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    from databricks.sdk.service.catalog import VolumeType

    catalog, schema, volume = name.split(".")
    needs, command = f"CREATE VOLUME on the schema {catalog}.{schema}", f"CREATE VOLUME {quoted(name)};"
    with permitted(f"creating the volume {name}", needs=needs, command=command):
        create_once(lambda: api().volumes.create(catalog, schema, volume, VolumeType.MANAGED))


def _check_folder(api: "Callable[[], WorkspaceClient]", folder: str) -> str | None:
    return absent(f"reading the folder {folder}", "READ VOLUME on its volume", lambda: api().files.get_directory_metadata(folder))


def _create_folder(api: "Callable[[], WorkspaceClient]", folder: str) -> None:
    command = f"databricks fs mkdir dbfs:{folder}"
    with permitted(f"creating the folder {folder}", needs="WRITE VOLUME on its volume", command=command):
        api().files.create_directory(folder)


def _check_model(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return absent(f"reading the registered model {name}", "EXECUTE on it", lambda: api().registered_models.get(name))


def _create_model(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    catalog, schema, model = name.split(".")
    needs = f"CREATE MODEL on the schema {catalog}.{schema}"
    given = json.dumps({"catalog_name": catalog, "schema_name": schema, "name": model})
    command = f"databricks registered-models create --json '{given}'"
    with permitted(f"creating the registered model {name}", needs=needs, command=command):
        create_once(lambda: api().registered_models.create(catalog_name=catalog, schema_name=schema, name=model))
