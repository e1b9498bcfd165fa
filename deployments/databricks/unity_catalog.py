"""The catalogs, schemas, volumes and the registered model that must exist in Unity Catalog."""

import json
from pathlib import Path

from car_damage.adapters.mlflow.registry import DESCRIPTION
from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.administrator import quoted
from deployments.databricks.existence import absent, creatable
from deployments.databricks.principal import Api
from deployments.items import ABSENT, Item


def items(settings: Settings, api: Api) -> list[Item]:
    """What must exist, in the order in which it must be created."""
    folder = settings.landing.folder
    below_volume = bool(landing(settings)) and len(Path(folder).parts) > 5
    return [
        *(_catalog(api, name) for name in catalogs(settings)),
        *(_schema(api, name, comments(settings).get(name)) for name in schemas(settings)),
        *(_volume(api, name, comments(settings).get(name)) for name in [*landing(settings), *volumes(settings)]),
        *([_folder(api, folder)] if below_volume else []),
        *(_model(api, name) for name in models(settings)),
    ]


def catalogs(settings: Settings) -> list[str]:
    """The catalogs of all schemas of the service."""
    return list(dict.fromkeys(name.partition(".")[0] for name in schemas(settings)))


def schemas(settings: Settings) -> list[str]:
    """catalog.schema of all tables, volumes and models that the service reads or writes."""
    named = [*landing(settings), *backbones(settings), *tables(settings), settings.tracking.model, *volumes(settings)]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in named))


def tables(settings: Settings) -> list[str]:
    """catalog.schema.table of the tables that the jobs and the endpoint create."""
    inference = settings.serving.inference_table
    return [*settings.tables.all, *([inference] if inference else [])]


def volumes(settings: Settings) -> list[str]:
    """catalog.schema.volume of the volumes that the service writes to.

    Raises:
        SettingsError: a setting must name a folder on a volume and does not.
    """
    databricks, kept = settings.databricks, settings.answers.keep_for_review
    folders = {
        "answers.corrections": settings.answers.corrections,
        **({"answers.keep_for_review": kept} if kept else {}),
        "databricks.handovers": databricks.handovers,
        "databricks.wheels": databricks.wheels,
    }
    log = volume_of(settings.monitoring.log_folder)
    found = [log] if log else []
    for setting, folder in folders.items():
        volume = volume_of(folder)
        if volume is None:
            raise SettingsError(f"{setting} is {folder}; it must lie on a volume: /Volumes/catalog/schema/volume/...")
        found.append(volume)
    return list(dict.fromkeys(found))


def landing(settings: Settings) -> list[str]:
    """The volume of the landing folder, if it lies on one. The service only reads it: it belongs to the data team."""
    volume = volume_of(settings.landing.folder)
    return [volume] if volume and volume not in volumes(settings) else []


def backbones(settings: Settings) -> list[str]:
    """The volumes of the files that `training.backbone` and `training.weights` name. The service only reads them."""
    found = dict.fromkeys(volume for path in settings.training.files.values() if (volume := volume_of(path)))
    return [volume for volume in found if volume not in {*landing(settings), *volumes(settings)}]


def models(settings: Settings) -> list[str]:
    """The registered model, if the registry is Unity Catalog's."""
    return [settings.tracking.model] if settings.registry_uri.startswith("databricks-uc") else []


def comments(settings: Settings) -> dict[str, str]:
    """Full name of a schema or volume -> what it is, for people. Of two uses of one schema the later one counts."""
    names, databricks, photos = settings.tables, settings.databricks, "Photos of damaged cars, a folder for each class."
    inference = settings.serving.inference_table
    uses = {
        settings.tracking.model: "The model of the severity of car damage.",
        databricks.wheels: "Wheels that the jobs of the car damage service install.",
        settings.answers.corrections: "What people say about photos of damaged cars, and the photos that got a class there.",
        **({kept: "Photos of damaged cars that wait for a person."} if (kept := settings.answers.keep_for_review) else {}),
        settings.monitoring.log_folder: "Requests to the endpoint of the car damage model, until they are in their table.",
        **({inference: "Requests to the endpoint of the car damage model, with their photos."} if inference else {}),
        databricks.handovers: "Requests and reports that flow runs and jobs of the car damage service exchange; old ones are removed.",
        names.inference_log: "Requests to the endpoint of the car damage model, without photos.",
        names.monitoring: "What the requests to the endpoint of the car damage model say of its live version.",
        names.claims: "What the photos of each claim show together.",
        names.predictions: "Answers of the car damage model to many photos.",
        names.features: "What a backbone sees in each photo of a damaged car.",
        names.forgotten: "Marks of photos of damaged cars that were forgotten, without the photos.",
        names.reviews: "What people have said about photos of damaged cars.",
        names.splits: "The split of each photo of damaged cars.",
        names.silver: "Photos of damaged cars that models are trained and tested on.",
        names.bronze: "The verdict on each photo of a damaged car that has landed.",
        settings.landing.folder: photos,
    }
    found = {volume: text for place, text in uses.items() if (volume := volume_of(place))}
    return {(volume_of(place) or place).rpartition(".")[0]: text for place, text in uses.items()} | found


def volume_of(folder: str) -> str | None:
    """catalog.schema.volume of a folder; None if it does not lie on a volume."""
    parts = Path(folder).parts
    return ".".join(parts[2:5]) if folder.startswith("/Volumes/") and len(parts) >= 5 else None


def _catalog(api: Api, name: str) -> Item:
    """There is no fix: the check itself refuses a missing catalog, so that a plan and doctor refuse it too."""

    def check() -> None:
        if absent(f"reading the catalog {name}", "USE CATALOG on it", lambda: api().catalogs.get(name)):
            raise SettingsError(f"the catalog {name} {ABSENT}: let an administrator create it, or name another one in the settings")

    return Item(f"catalog {name}", check, lambda: None)


def _schema(api: Api, name: str, comment: str | None) -> Item:
    catalog, _, schema = name.partition(".")
    return creatable(
        f"schema {name}",
        lambda: api().schemas.get(name),
        "USE SCHEMA on it",
        lambda: api().schemas.create(schema, catalog, comment=comment),
        f"CREATE SCHEMA on the catalog {catalog}",
        f"CREATE SCHEMA {quoted(name)};",
    )


def _volume(api: Api, name: str, comment: str | None) -> Item:
    def create() -> None:
        from databricks.sdk.service.catalog import VolumeType

        api().volumes.create(*name.split("."), VolumeType.MANAGED, comment=comment)

    needs, command = f"CREATE VOLUME on the schema {name.rpartition('.')[0]}", f"CREATE VOLUME {quoted(name)};"
    return creatable(f"volume {name}", lambda: api().volumes.read(name), "READ VOLUME on it", create, needs, command)


def _folder(api: Api, folder: str) -> Item:
    return creatable(
        f"folder {folder}",
        lambda: api().files.get_directory_metadata(folder),
        "READ VOLUME on its volume",
        lambda: api().files.create_directory(folder),
        "WRITE VOLUME on its volume",
        f"databricks fs mkdir dbfs:{folder}",
    )


def _model(api: Api, name: str) -> Item:
    catalog, _, rest = name.partition(".")
    schema, _, model = rest.rpartition(".")
    fields = {"catalog_name": catalog, "schema_name": schema, "name": model}
    return creatable(
        f"registered model {name}",
        lambda: api().registered_models.get(name),
        "EXECUTE on it",
        lambda: api().registered_models.create(**fields, comment=DESCRIPTION),
        f"CREATE MODEL on the schema {catalog}.{schema}",
        f"databricks registered-models create --json '{json.dumps(fields)}'",
    )
