"""What must be in a Databricks workspace before stages can run there as jobs: securables, experiment, wheel, jobs, permissions.

Everything is found by name, made where it is missing, and brought up to date where it differs. Nothing is ever dropped but a job
that a lost answer had made twice, and no permission taken away.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import car_damage
from car_damage.adapters.databricks import workspace
from car_damage.errors import SettingsError
from car_damage.job import code
from car_damage.job.jobs import named
from car_damage.model.process import scrubbed
from car_damage.settings import Settings
from deployments.administrator import permitted
from deployments.databricks import access_control, bundle, compute, grants, unity_catalog
from deployments.databricks.presence import absent
from deployments.databricks.principal import Principal, principal
from deployments.items import ABSENT, DIFFERS, Item

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

ROOT = Path(car_damage.__file__).parents[1]
"""The checkout."""
BOOTSTRAP = ".venv/bin/python -m deployments bootstrap"
"""What somebody with more rights runs, where no one command does it."""
BUILD_TIMEOUT = 300.0
"""Seconds that the wheel may take to be built."""


def items(settings: Settings, client: "Callable[[], WorkspaceClient]" = workspace.client) -> list[Item]:
    """What a flow run whose stages are jobs needs, in the order in which it has to be made."""
    api = cache(client)
    who = cache(lambda: principal(api, settings))
    wheel = wheel_path(settings)
    return [
        *unity_catalog.items(settings, api),
        *access_control.experiment_items(settings, api),
        Item(f"wheel {Path(wheel).name}", partial(_look_at_wheel, api, wheel), partial(_put_wheel, api, wheel)),
        *(
            Item(f"job {job['name']}", partial(_look_at_job, api, job, settings), partial(_put_job, api, who, job, settings))
            for job in jobs(settings)
        ),
        *grants.items(settings, api, who),
        *access_control.permission_items(settings, api, who),
    ]


def jobs(settings: Settings) -> list[dict[str, Any]]:
    """The jobs' settings as databricks.yml has them, under the names that are set."""
    wanted = bundle.jobs({"wheel": wheel_path(settings)})
    ours = settings.databricks
    names = {"car-damage-ingest": ours.ingest_job, "car-damage-train": ours.train_job, "car-damage-score": ours.score_job}
    extras = compute.extras(ROOT)
    return [compute.form(wanted[key] | {"name": name}, ours, extras) for key, name in names.items()]


def wheel_path(settings: Settings) -> str:
    """Where this checkout's wheel belongs. The name has the version, and as its build tag a hash of what goes into it."""
    requirements = (ROOT / "pyproject.toml").read_bytes()
    build = hashlib.sha256(code.of(ROOT / "car_damage").encode() + requirements).hexdigest()[:12]
    return f"{settings.databricks.wheels}car_damage-{car_damage.__version__}-0{build}-py3-none-any.whl"


def _look_at_wheel(api: "Callable[[], WorkspaceClient]", path: str) -> str | None:
    return absent(f"looking for {path}", "READ VOLUME on its volume", lambda: api().files.get_metadata(path))


def _put_wheel(api: "Callable[[], WorkspaceClient]", path: str) -> None:
    from car_damage.adapters.databricks.volume import Volume

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


def _look_at_job(api: "Callable[[], WorkspaceClient]", job: dict[str, Any], settings: Settings) -> str | None:
    there = find_job(api, job["name"])
    if there is None:
        return ABSENT
    if of_a_bundle(there):
        return None  # whoever deploys the bundle says what is in it
    different = bundle.differences(job, there.settings.as_dict())
    principal = settings.databricks.service_principal
    if principal and there.run_as_user_name != principal:
        different.append(f"run_as: {there.run_as_user_name!r} -> {principal!r}")
    return f"{DIFFERS}{'; '.join(different)}" if different else None


def _put_job(api: "Callable[[], WorkspaceClient]", who: Callable[[], Principal], job: dict[str, Any], settings: Settings) -> None:
    from databricks.sdk.service.jobs import JobSettings

    there = find_job(api, job["name"])
    principal = settings.databricks.service_principal
    run_as = {"run_as": {"service_principal_name": principal}} if principal else {}
    wanted = JobSettings.from_dict((there.settings.as_dict() if there else {}) | job | run_as)
    needs = "CAN MANAGE on it, or that jobs may be created"
    if principal:
        needs += f"; and, for whom it runs as, the role Service Principal: User on {principal}"
    with permitted(f"writing the job {job['name']}", needs=needs, command=BOOTSTRAP):
        if there is None:
            made = api().jobs.create(**{name: getattr(wanted, name) for name, value in (job | run_as).items() if value is not None}).job_id
            _keep_one(api, job["name"], made, who().caller)
        else:
            # What a reset does not name is taken off the job: tags and notifications are others' business, and so is whom it
            # runs as where no service principal is set, which no answer tells and a reset leaves alone.
            api().jobs.reset(there.job_id, wanted)


def _keep_one(api: "Callable[[], WorkspaceClient]", name: str, made: int, caller: str) -> None:
    """Of the caller's jobs of a name, the lowest id: the SDK asks again after a lost answer, and each time a job is made.

    Two bootstraps at once, who each take the other's for such a job, so keep the same one.
    """
    from databricks.sdk.errors import InvalidParameterValue, NotFound

    there = named(api().jobs, name)
    own = {made, *(job.job_id for job in there if job.creator_user_name == caller)}
    again = own - {min(own)}
    for one in again:
        with contextlib.suppress(InvalidParameterValue, NotFound):  # the other bootstrap was quicker; the API has either word for it
            api().jobs.delete(one)
    _only({made, *(job.job_id for job in there)} - again, name)


def _only(ids: Iterable[int], name: str) -> None:
    if len(found := sorted(ids)) > 1:
        raise SettingsError(f"there are {len(found)} jobs {name} ({', '.join(map(str, found))}), and it must be one: delete the others")


def find_job(api: "Callable[[], WorkspaceClient]", name: str) -> Any:
    """The one job of a name, with its settings; None where there is none."""
    with workspace.translated(f"looking at the job {name}", needs="CAN VIEW on it"):
        found = named(api().jobs, name)
        if not found:
            return None
        _only((job.job_id for job in found), name)
        return api().jobs.get(found[0].job_id)


def of_a_bundle(job: Any) -> bool:
    """Whether whoever deploys a bundle says what is in it."""
    from databricks.sdk.service.jobs import JobDeploymentKind

    deployment = job.settings.deployment
    return deployment is not None and deployment.kind is JobDeploymentKind.BUNDLE
