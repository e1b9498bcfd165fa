"""The throw-away place of a smoke test: names in one new schema, and the settings that use them."""

import secrets
from dataclasses import dataclass

from car_damage.errors import SettingsError
from car_damage.settings import TABLES, Promotion, Settings


@dataclass(frozen=True)
class Place:
    """Where a smoke test works."""

    name: str
    """The name of the schema. Everything outside the schema has a name that begins with it: jobs, experiment, endpoint."""
    catalog: str
    settings: Settings

    @property
    def schema(self) -> str:
        return f"{self.catalog}.{self.name}"


def new(settings: Settings) -> Place:
    """A place with a random name in the catalog of the registered model.

    Raises:
        SettingsError: the settings are not for a workspace.
    """
    if settings.databricks.stages != "jobs" or not settings.registry_uri.startswith("databricks-uc"):
        raise SettingsError(
            'the smoke test needs settings of a workspace (databricks.stages = "jobs", tracking.registry_uri = "databricks-uc"): '
            "set CAR_DAMAGE_CONFIG to deployments/settings/databricks.toml, or to your copy of it"
        )
    name = f"car_damage_smoke_{secrets.token_hex(4)}"
    catalog = settings.tracking.model.partition(".")[0]
    return Place(name, catalog, _settings(settings, name, catalog))


def _settings(settings: Settings, name: str, catalog: str) -> Settings:
    """The same workspace and compute, with other names, and with as little training as there can be."""
    volume, schema = f"/Volumes/{catalog}/{name}", f"{catalog}.{name}"
    tables = {table: f"{schema}.{table}" for table in TABLES}
    jobs = {f"{job}_job": f"{name}-{job}" for job in settings.databricks.jobs}
    changes = {
        "landing": {"folder": f"{volume}/photos/"},
        "answers": {"corrections": f"{volume}/ops/corrections/", "keep_for_review": None},
        "tables": tables,
        "split": {"test": 0.25, "validation": 0.25},
        "training": {"epochs": 1},
        "tracking": {"model": f"{schema}.classifier", "experiment": f"/Shared/{name}"},
        "serving": {"endpoint": name, "inference_table": None},
        # Everything runs as the caller; what a service principal needs is given to it at the end: `Smoke.steps`.
        "databricks": {
            "handovers": f"{volume}/ops/runs/",
            "wheels": f"{volume}/ops/wheels/",
            "credentials": None,
            "service_principal": None,
            "app": None,
            "quality_monitors": False,
            **jobs,
        },
    }
    sections = {section: getattr(settings, section).model_copy(update=update) for section, update in changes.items()}
    # A version with any quality goes live, because the test is about the calls.
    promotion = Promotion(
        mode="automatic",
        first_version="any",
        min_test_photos=1,
        min_test_photos_per_class=1,
        recall_floor={},
        costs=settings.promotion.costs,
    )
    return settings.model_copy(update={**sections, "promotion": promotion})
