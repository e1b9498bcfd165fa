"""What must exist in a Databricks workspace before stages can run there as jobs: securables, experiment, wheel, jobs, permissions.

Everything is found by name, created if it is missing, and updated if it differs. No permission is revoked, and nothing is deleted
except duplicates of a job that a retry has created.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import car_damage
from car_damage.adapters.databricks import workspace
from car_damage.errors import SettingsError
from car_damage.job import code
from car_damage.model.served.environment import scrubbed
from car_damage.settings import Settings
from deployments.databricks import (
    access_control,
    approval_page,
    bundle,
    compute,
    descriptions,
    grants,
    jobs,
    quality_monitors,
    review_app,
    unity_catalog,
)
from deployments.databricks.existence import absent
from deployments.databricks.principal import Api, principal
from deployments.items import Item
from tasks.commands import BOOTSTRAP, BUNDLE_DEPLOY

ROOT = Path(car_damage.__file__).parents[1]
"""The checkout."""
BUILD_TIMEOUT = 300.0
"""Seconds that building the wheel may take."""


def items(settings: Settings, client: Api = workspace.client) -> list[Item]:
    """What a flow run needs when its stages run as jobs, in the order in which it must be created."""
    api = cache(client)
    who = cache(lambda: principal(api, settings))
    wheel = wheel_path(settings)
    return [
        *unity_catalog.items(settings, api),
        *descriptions.items(settings, api),
        *access_control.experiment_items(settings, api),
        Item(f"wheel {Path(wheel).name}", partial(_check_wheel, api, wheel), partial(_upload_wheel, api, wheel)),
        *jobs.items(settings, api, who, wanted_jobs(settings)),
        *grants.items(settings, api, who),
        *access_control.permission_items(settings, api, who),
        *approval_page.items(settings, api),
        *quality_monitors.items(settings, api),
        *review_app.items(settings, api, who, wheel),
    ]


def wanted_jobs(settings: Settings) -> list[dict[str, Any]]:
    """The settings of each job from databricks.yml, with the job names and the compute of the settings."""
    ours = settings.databricks
    wanted = bundle.jobs({"wheel": wheel_path(settings)}, target=ours.bundle_target)
    extras = compute.extras(ROOT)
    return [compute.form(wanted[f"car-damage-{job}"] | {"name": name}, ours, extras) for job, name in settings.jobs.items()]


def wheel_path(settings: Settings) -> str:
    """Path of this checkout's wheel on its volume. The name contains the version, and a hash of the wheel's content as its build tag."""
    requirements = (ROOT / "pyproject.toml").read_bytes()
    build = hashlib.sha256(code.of(ROOT / "car_damage").encode() + requirements).hexdigest()[:12]
    return f"{settings.databricks.wheels}car_damage-{car_damage.__version__}-0{build}-py3-none-any.whl"


def deliver_wheel(settings: Settings, client: Api = workspace.client) -> str | None:
    """Upload the wheel of this checkout, if it is not there and its volume exists. Returns why it was not uploaded, or None.

    Raises:
        SettingsError, RequestRefused, Unavailable: as the item for the wheel.
    """
    api, path = cache(client), wheel_path(settings)
    *_, volume = unity_catalog.volumes(settings)
    if absent(f"reading the volume {volume}", "READ VOLUME on it", lambda: api().volumes.read(volume)):
        return f"not uploaded: the volume {volume} is missing; `{BUNDLE_DEPLOY}` or `{BOOTSTRAP}` creates it, and `{BOOTSTRAP}` uploads"
    if _check_wheel(api, path) is not None:
        _upload_wheel(api, path)
    return None


def _check_wheel(api: Api, path: str) -> str | None:
    return absent(f"looking for {path}", "READ VOLUME on its volume", lambda: api().files.get_metadata(path))


def _upload_wheel(api: Api, path: str) -> None:
    from car_damage.adapters.databricks.volume import Volume

    with tempfile.TemporaryDirectory(prefix="car-damage-wheel-") as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(ROOT)]
        # Without credentials in its environment, because the build backend is third-party code.
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False, env=scrubbed(os.environ))
        except subprocess.TimeoutExpired as error:
            raise SettingsError(f"building the wheel from {ROOT} took longer than {BUILD_TIMEOUT:.0f} s") from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise SettingsError(f"the wheel could not be built from {ROOT}: {(done.stderr or done.stdout).strip()[-500:]}")
        Volume(api).replace(path, wheels[0].read_bytes())
