"""Catalogs, schemas, volumes and the registered model: what the service names in Unity Catalog, found or made."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.administrator import permitted, quoted
from deployments.databricks.presence import absent, once
from deployments.items import Item

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient


def items(settings: Settings, api: "Callable[[], WorkspaceClient]") -> list[Item]:
    """What has to be there, in the order in which it has to be made."""
    every = [*landing(settings), *volumes(settings)]
    return [
        *(Item(f"catalog {name}", partial(_look_at_catalog, api, name), _nothing) for name in catalogs(settings)),
        *(Item(f"schema {name}", partial(_look_at_schema, api, name), partial(_make_schema, api, name)) for name in schemas(settings)),
        *(Item(f"volume {name}", partial(_look_at_volume, api, name), partial(_make_volume, api, name)) for name in every),
        *(
            Item(f"folder {folder}", partial(_look_at_folder, api, folder), partial(_make_folder, api, folder))
            for folder in [settings.landing.folder]
            if landing(settings) and len(Path(folder).parts) > 5
        ),
        *(
            Item(f"registered model {name}", partial(_look_at_model, api, name), partial(_make_model, api, name))
            for name in models(settings)
        ),
    ]


def catalogs(settings: Settings) -> list[str]:
    """The catalog of everything that the service names."""
    return list(dict.fromkeys(name.partition(".")[0] for name in schemas(settings)))


def schemas(settings: Settings) -> list[str]:
    """catalog.schema of everything that the service reads and writes."""
    named = [*landing(settings), *tables(settings), settings.tracking.model, *volumes(settings)]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in named))


def tables(settings: Settings) -> list[str]:
    """catalog.schema.table of the tables that the jobs make, and the endpoint."""
    asked = settings.serving.inference_table
    return [settings.tables.bronze, settings.tables.silver, settings.tables.predictions, *([asked] if asked else [])]


def volumes(settings: Settings) -> list[str]:
    """catalog.schema.volume of the volumes that the service writes to.

    Raises:
        SettingsError: a setting names no folder on a volume.
    """
    found = []
    for setting in ("handovers", "wheels"):
        folder = getattr(settings.databricks, setting)
        volume = volume_of(folder)
        if volume is None:
            raise SettingsError(f"databricks.{setting} must lie on a volume, /Volumes/catalog/schema/volume/..., and is {folder}")
        found.append(volume)
    return list(dict.fromkeys(found))


def landing(settings: Settings) -> list[str]:
    """The volume on which photos land, where they land on one. It is the data team's, and only ever read."""
    volume = volume_of(settings.landing.folder)
    return [volume] if volume and volume not in volumes(settings) else []


def models(settings: Settings) -> list[str]:
    """The registered model, where the registry is Unity Catalog's."""
    return [settings.tracking.model] if settings.registry_uri.startswith("databricks-uc") else []


def volume_of(folder: str) -> str | None:
    """catalog.schema.volume of a folder, or None: it is on no volume."""
    parts = Path(folder).parts
    return ".".join(parts[2:5]) if folder.startswith("/Volumes/") and len(parts) >= 5 else None


def _look_at_catalog(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    if absent(f"looking at the catalog {name}", "USE CATALOG on it", lambda: api().catalogs.get(name)):
        raise SettingsError(f"the catalog {name} is not there, and is an administrator's to make; or name another one in the settings")
    return None


def _nothing() -> None:
    """What is not there has been refused by the look already, so that a plan and doctor refuse it too."""


def _look_at_schema(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return absent(f"looking at the schema {name}", "USE SCHEMA on it", lambda: api().schemas.get(name))


def _make_schema(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    catalog, _, schema = name.partition(".")
    needs, command = f"CREATE SCHEMA on the catalog {catalog}", f"CREATE SCHEMA {quoted(name)};"
    with permitted(f"creating the schema {name}", needs=needs, command=command):
        once(lambda: api().schemas.create(schema, catalog))


def _look_at_volume(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return absent(f"looking at the volume {name}", "READ VOLUME on it", lambda: api().volumes.read(name))


def _make_volume(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    from databricks.sdk.service.catalog import VolumeType

    catalog, schema, volume = name.split(".")
    needs, command = f"CREATE VOLUME on the schema {catalog}.{schema}", f"CREATE VOLUME {quoted(name)};"
    with permitted(f"creating the volume {name}", needs=needs, command=command):
        once(lambda: api().volumes.create(catalog, schema, volume, VolumeType.MANAGED))


def _look_at_folder(api: "Callable[[], WorkspaceClient]", folder: str) -> str | None:
    return absent(f"looking at the folder {folder}", "READ VOLUME on its volume", lambda: api().files.get_directory_metadata(folder))


def _make_folder(api: "Callable[[], WorkspaceClient]", folder: str) -> None:
    command = f"databricks fs mkdir dbfs:{folder}"
    with permitted(f"creating the folder {folder}", needs="WRITE VOLUME on its volume", command=command):
        api().files.create_directory(folder)


def _look_at_model(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return absent(f"looking at the registered model {name}", "EXECUTE on it", lambda: api().registered_models.get(name))


def _make_model(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    catalog, schema, model = name.split(".")
    needs = f"CREATE MODEL on the schema {catalog}.{schema}"
    given = json.dumps({"catalog_name": catalog, "schema_name": schema, "name": model})
    command = f"databricks registered-models create --json '{given}'"
    with permitted(f"creating the registered model {name}", needs=needs, command=command):
        once(lambda: api().registered_models.create(catalog_name=catalog, schema_name=schema, name=model))
