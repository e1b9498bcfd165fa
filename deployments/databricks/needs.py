"""What must exist in a Databricks workspace before stages can run there as jobs: securables, experiment, wheel, jobs, permissions.

Everything is found by name, created if it is missing, and updated if it differs. No permission is revoked, and nothing is deleted
except duplicates of a job that a retry has created.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import car_damage
from car_damage.adapters.databricks import workspace
from car_damage.errors import SettingsError
from car_damage.job import code
from car_damage.job.jobs import named
from car_damage.model.environment import scrubbed
from car_damage.settings import Settings
from deployments.administrator import permitted
from deployments.databricks import access_control, approval_page, bundle, compute, descriptions, grants, unity_catalog
from deployments.databricks.existence import absent
from deployments.databricks.principal import Api, Who, principal
from deployments.items import ABSENT, DIFFERS, Item
from tasks.commands import BOOTSTRAP

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
        *(
            Item(f"job {job['name']}", partial(_check_job, api, job, settings), partial(_write_job, api, who, job, settings))
            for job in jobs(settings)
        ),
        *grants.items(settings, api, who),
        *access_control.permission_items(settings, api, who),
        *approval_page.items(settings, api),
    ]


def jobs(settings: Settings) -> list[dict[str, Any]]:
    """The settings of each job from databricks.yml, with the job names and the compute of the settings."""
    wanted = bundle.jobs({"wheel": wheel_path(settings)})
    ours = settings.databricks
    extras = compute.extras(ROOT)
    return [compute.form(wanted[f"car-damage-{job}"] | {"name": name}, ours, extras) for job, name in settings.jobs.items()]


def wheel_path(settings: Settings) -> str:
    """Path of this checkout's wheel on its volume. The name contains the version, and a hash of the wheel's content as its build tag."""
    requirements = (ROOT / "pyproject.toml").read_bytes()
    build = hashlib.sha256(code.of(ROOT / "car_damage").encode() + requirements).hexdigest()[:12]
    return f"{settings.databricks.wheels}car_damage-{car_damage.__version__}-0{build}-py3-none-any.whl"


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


def _check_job(api: Api, job: dict[str, Any], settings: Settings) -> str | None:
    found = find_job(api, job["name"])
    if found is None:
        return ABSENT
    if of_a_bundle(found):
        return None  # the bundle defines its settings
    different = bundle.differences(job, found.settings.as_dict())
    principal = settings.databricks.service_principal
    if principal and found.run_as_user_name != principal:
        different.append(f"run_as: {found.run_as_user_name!r} -> {principal!r}")
    return f"{DIFFERS}{'; '.join(different)}" if different else None


def _write_job(api: Api, who: Who, job: dict[str, Any], settings: Settings) -> None:
    from databricks.sdk.service.jobs import JobSettings

    found = find_job(api, job["name"])
    principal = settings.databricks.service_principal
    run_as = {"run_as": {"service_principal_name": principal}} if principal else {}
    wanted = JobSettings.from_dict((found.settings.as_dict() if found else {}) | job | run_as)
    needs = "CAN MANAGE on it, or permission to create jobs"
    if principal:
        needs += f"; and, because the job runs as it, the role Service Principal: User on {principal}"
    with permitted(f"writing the job {job['name']}", needs=needs, command=BOOTSTRAP):
        if found is None:
            made = api().jobs.create(**{name: getattr(wanted, name) for name, value in (job | run_as).items() if value is not None}).job_id
            _keep_one(api, job["name"], made, who().caller)
        else:
            # A reset removes settings that it does not name, so `wanted` keeps the tags and notifications that others have set.
            # Without a service principal run_as stays as it is: no response contains it, and a reset does not change it.
            api().jobs.reset(found.job_id, wanted)


def _keep_one(api: Api, name: str, made: int, caller: str) -> None:
    """Delete the caller's jobs of this name except that with the lowest id.

    The SDK retries after a lost response, and each try creates a job. Two bootstraps at once also create two jobs; both keep the
    same one.
    """
    from databricks.sdk.errors import InvalidParameterValue, NotFound

    found = named(api().jobs, name)
    own = {made, *(job.job_id for job in found if job.creator_user_name == caller)}
    duplicates = own - {min(own)}
    for one in duplicates:
        with contextlib.suppress(InvalidParameterValue, NotFound):  # the API's errors for a job that the other bootstrap has deleted
            api().jobs.delete(one)
    _refuse_several({made, *(job.job_id for job in found)} - duplicates, name)


def _refuse_several(ids: Iterable[int], name: str) -> None:
    if len(found := sorted(ids)) > 1:
        raise SettingsError(f"there are {len(found)} jobs {name} ({', '.join(map(str, found))}), and there must be one: delete the others")


def find_job(api: Api, name: str) -> Any:
    """The only job of this name, with its settings; None if it does not exist."""
    with workspace.translated(f"reading the job {name}", needs="CAN VIEW on it"):
        found = named(api().jobs, name)
        if not found:
            return None
        _refuse_several((job.job_id for job in found), name)
        return api().jobs.get(found[0].job_id)


def of_a_bundle(job: Any) -> bool:
    """Whether a Databricks Asset Bundle defines the job."""
    from databricks.sdk.service.jobs import JobDeploymentKind

    deployment = job.settings.deployment
    return deployment is not None and deployment.kind is JobDeploymentKind.BUNDLE
