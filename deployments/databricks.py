"""What has to be in a Databricks workspace before stages can run there as jobs: schemas, volumes, the wheel, the jobs.

Everything is found by name, made where it is missing, and brought up to date where it differs. Nothing is ever dropped.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import car_damage
from car_damage import code, workspace
from car_damage.errors import SettingsError
from car_damage.model_process import scrubbed
from car_damage.settings import Settings
from deployments import bundle, compute
from deployments.items import Item

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

ROOT = Path(car_damage.__file__).parents[1]
"""The checkout."""
BUILD_TIMEOUT = 300.0
"""Seconds that the wheel may take to be built."""


def items(settings: Settings, client: "Callable[[], WorkspaceClient]" = workspace.client) -> list[Item]:
    """What a flow run whose stages are jobs needs, in the order in which it has to be made."""
    api = cache(client)
    wheel = wheel_path(settings)
    wanted = bundle.jobs({"wheel": wheel})
    ours = settings.databricks
    named = {"car-damage-ingest": ours.ingest_job, "car-damage-train": ours.train_job, "car-damage-score": ours.score_job}
    extras = compute.extras(ROOT)
    jobs = [compute.form(wanted[key] | {"name": name}, ours, extras) for key, name in named.items()]
    catalogs = list(dict.fromkeys(name.partition(".")[0] for name in schemas(settings)))
    return [
        *(Item(f"catalog {name}", partial(_look_at_catalog, api, name), partial(_refuse_catalog, name)) for name in catalogs),
        *(Item(f"schema {name}", partial(_look_at_schema, api, name), partial(_make_schema, api, name)) for name in schemas(settings)),
        *(Item(f"volume {name}", partial(_look_at_volume, api, name), partial(_make_volume, api, name)) for name in volumes(settings)),
        Item("wheel", partial(_look_at_wheel, api, wheel), partial(_put_wheel, api, wheel)),
        *(Item(f"job {job['name']}", partial(_look_at_job, api, job), partial(_put_job, api, job)) for job in jobs),
    ]


def schemas(settings: Settings) -> list[str]:
    """catalog.schema of everything that the service writes."""
    tables = settings.tables
    three = [tables.bronze, tables.silver, tables.predictions, settings.tracking.model, *volumes(settings)]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in three))


def volumes(settings: Settings) -> list[str]:
    """catalog.schema.volume of the volumes that the service writes to.

    Raises:
        SettingsError: a setting names no folder on a volume.
    """
    found = []
    for setting in ("handovers", "wheels"):
        folder = getattr(settings.databricks, setting)
        parts = Path(folder).parts
        if not folder.startswith("/Volumes/") or len(parts) < 5:
            raise SettingsError(f"databricks.{setting} must lie on a volume, /Volumes/catalog/schema/volume/..., and is {folder}")
        found.append(".".join(parts[2:5]))
    return list(dict.fromkeys(found))


def wheel_path(settings: Settings) -> str:
    """Where this checkout's wheel belongs. The name has the version, and as its build tag a hash of what goes into it."""
    requirements = (ROOT / "pyproject.toml").read_bytes()
    build = hashlib.sha256(code.of(ROOT / "car_damage").encode() + requirements).hexdigest()[:12]
    return f"{settings.databricks.wheels}car_damage-{car_damage.__version__}-0{build}-py3-none-any.whl"


def _look_at_catalog(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return _absent(f"looking at the catalog {name}", "USE CATALOG on it", lambda: api().catalogs.get(name))


def _refuse_catalog(name: str) -> None:
    raise SettingsError(f"the catalog {name} is not there, and is an administrator's to make; or name another one in the settings")


def _look_at_schema(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return _absent(f"looking at the schema {name}", "USE CATALOG on its catalog", lambda: api().schemas.get(name))


def _make_schema(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    catalog, _, schema = name.partition(".")
    with workspace.translated(f"creating the schema {name}", needs=f"CREATE SCHEMA on the catalog {catalog}"):
        _once(lambda: api().schemas.create(schema, catalog))


def _look_at_volume(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return _absent(f"looking at the volume {name}", "READ VOLUME on it", lambda: api().volumes.read(name))


def _make_volume(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    from databricks.sdk.service.catalog import VolumeType

    catalog, schema, volume = name.split(".")
    with workspace.translated(f"creating the volume {name}", needs=f"CREATE VOLUME on the schema {catalog}.{schema}"):
        _once(lambda: api().volumes.create(catalog, schema, volume, VolumeType.MANAGED))


def _look_at_wheel(api: "Callable[[], WorkspaceClient]", path: str) -> str | None:
    return _absent(f"looking for {path}", "READ VOLUME on its volume", lambda: api().files.get_metadata(path))


def _put_wheel(api: "Callable[[], WorkspaceClient]", path: str) -> None:
    from car_damage.engines.volume import Volume

    with tempfile.TemporaryDirectory(prefix="car-damage-wheel-") as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(ROOT)]
        # What builds it is code from elsewhere, which needs no credentials.
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False, env=scrubbed(os.environ))
        except subprocess.TimeoutExpired as error:
            raise SettingsError(f"the wheel was not built from {ROOT} within {BUILD_TIMEOUT:.0f} s") from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise SettingsError(f"the wheel could not be built from {ROOT}: {(done.stderr or done.stdout).strip()[-500:]}")
        Volume(api).replace(path, wheels[0].read_bytes())


def _look_at_job(api: "Callable[[], WorkspaceClient]", job: dict[str, Any]) -> str | None:
    there = _job(api, job["name"])
    if there is None:
        return "is not there"
    if _of_a_bundle(there):
        return None  # whoever deploys the bundle says what is in it
    different = bundle.differences(job, there.settings.as_dict())
    return f"differs: {'; '.join(different)}" if different else None


def _put_job(api: "Callable[[], WorkspaceClient]", job: dict[str, Any]) -> None:
    from databricks.sdk.service.jobs import JobSettings

    there = _job(api, job["name"])
    with workspace.translated(f"writing the job {job['name']}", needs="CAN MANAGE on it, or that jobs may be created"):
        if there is None:
            settings = JobSettings.from_dict(job)
            made = api().jobs.create(**{name: getattr(settings, name) for name, value in job.items() if value is not None}).job_id
            # The SDK asks again after a lost answer, and each time a job is made.
            for again in list(api().jobs.list(name=job["name"])):
                if again.job_id != made:
                    api().jobs.delete(again.job_id)
        else:
            # What a reset does not name is taken off the job: tags, notifications and whom it runs as are others' business.
            api().jobs.reset(there.job_id, JobSettings.from_dict(there.settings.as_dict() | job))


def _job(api: "Callable[[], WorkspaceClient]", name: str) -> Any:
    """The one job of a name, with its settings; None where there is none."""
    with workspace.translated(f"looking at the job {name}", needs="CAN VIEW on it"):
        found = list(api().jobs.list(name=name))
        if not found:
            return None
        if len(found) > 1:
            ids = ", ".join(str(job.job_id) for job in found)
            raise SettingsError(f"there are {len(found)} jobs {name} ({ids}), and it must be one: delete the others")
        return api().jobs.get(found[0].job_id)


def _of_a_bundle(job: Any) -> bool:
    from databricks.sdk.service.jobs import JobDeploymentKind

    deployment = job.settings.deployment
    return deployment is not None and deployment.kind is JobDeploymentKind.BUNDLE


def _once(make: Callable[[], Any]) -> None:
    """Make something that may have been made by the same call, whose answer was lost."""
    from databricks.sdk.errors import DatabricksError

    try:
        make()
    except DatabricksError as error:
        if "ALREADY_EXISTS" not in (error.error_code or ""):
            raise


def _absent(doing: str, needs: str, look: Callable[[], Any]) -> str | None:
    from databricks.sdk.errors import NotFound

    with workspace.translated(doing, needs=needs):
        try:
            look()
        except NotFound:
            return "is not there"
    return None
