"""The jobs of a workspace: those that bootstrap makes and updates, and those that a bundle owns and bootstrap leaves alone.

`databricks bundle deploy` marks its jobs with `deployment.kind = BUNDLE`: databricks/cli, bundle/deploy/metadata/annotate_jobs.go.
"""

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Any

from car_damage.adapters.databricks import workspace
from car_damage.errors import SettingsError
from car_damage.job.jobs import named
from car_damage.settings import Settings
from deployments.administrator import permitted
from deployments.databricks.differences import differences, stated
from deployments.databricks.principal import Api, Who
from deployments.items import ABSENT, DIFFERS, Item
from tasks.commands import BOOTSTRAP, BUNDLE_DEPLOY


def items(settings: Settings, api: Api, who: Who, jobs: Iterable[dict[str, Any]]) -> list[Item]:
    """One item for each job.

    Args:
        settings: of this target.
        api: the workspace.
        who: the principal of the service.
        jobs: the settings that the jobs must have.
    """
    return [Item(f"job {job['name']}", partial(_check, api, job, settings), partial(_write, api, who, job, settings)) for job in jobs]


def find(api: Api, name: str) -> Any:
    """The only job of this name, with its settings; None if it does not exist.

    Raises:
        SettingsError: there are several; the message says which of them to delete.
        RequestRefused, Unavailable: as `workspace.translated`.
    """
    found = []
    with workspace.translated(f"reading the job {name}", needs="CAN VIEW on it"):
        for job in named(api().jobs, name):
            with contextlib.suppress(*_gone()):
                found.append(api().jobs.get(job.job_id))
    if len(found) > 1:
        raise SettingsError(_several(found, name))
    return found[0] if found else None


def of_a_bundle(job: Any) -> bool:
    """Whether a bundle owns the job."""
    from databricks.sdk.service.jobs import JobDeploymentKind

    deployment = job.settings.deployment
    return deployment is not None and deployment.kind is JobDeploymentKind.BUNDLE


def _several(found: list[Any], name: str) -> str:
    """Which of several jobs to delete: those of bootstrap if there is one of a bundle, else all but the oldest."""
    found = sorted(found, key=lambda job: (not of_a_bundle(job), job.job_id))
    told = ", ".join(f"{job.job_id} {_origin(job)}" for job in found)
    bundles, own = [job for job in found if of_a_bundle(job)], [job for job in found if not of_a_bundle(job)]
    advice = [f"`databricks jobs delete {job.job_id}`" for job in (own if bundles else own[1:])]
    if len(bundles) > 1:
        advice.append("`databricks bundle destroy` for all bundles but one")
    return f"there are {len(found)} jobs {name} ({told}), and there must be one: {', '.join(advice)}"


def _origin(job: Any) -> str:
    if of_a_bundle(job):
        return f"of the bundle {job.settings.deployment.metadata_file_path or ''}".rstrip()
    return f"of {job.creator_user_name}"


def _check(api: Api, job: dict[str, Any], settings: Settings) -> str | None:
    found = find(api, job["name"])
    if found is None:
        return ABSENT
    principal = settings.databricks.service_principal
    runs_as_another = bool(principal) and found.run_as_user_name != principal
    if of_a_bundle(found):  # the bundle defines its settings
        if runs_as_another:
            raise SettingsError(
                f"a bundle owns it, and it runs as {found.run_as_user_name} instead of {principal} (databricks.service_principal): set "
                f"run_as in databricks.yml, and run `{BUNDLE_DEPLOY} --var service_principal={principal}` with the target and the wheel"
            )
        return None
    different = differences(job, found.settings.as_dict())
    if runs_as_another:
        different.append(f"run_as: {found.run_as_user_name!r} -> {principal!r}")
    return f"{DIFFERS}{'; '.join(different)}" if different else None


def _write(api: Api, who: Who, job: dict[str, Any], settings: Settings) -> None:
    from databricks.sdk.service.jobs import JobSettings

    found = find(api, job["name"])
    principal = settings.databricks.service_principal
    run_as = {"run_as": {"service_principal_name": principal}} if principal else {}
    wanted = JobSettings.from_dict(stated((found.settings.as_dict() if found else {}) | job | run_as))
    needs = "CAN MANAGE on it, or permission to create jobs"
    if principal:
        needs += f"; and, because the job runs as it, the role Service Principal: User on {principal}"
    with permitted(f"writing the job {job['name']}", needs=needs, command=BOOTSTRAP):
        if found is None:
            made = api().jobs.create(**{name: getattr(wanted, name) for name in stated(job | run_as)}).job_id
            _keep_one(api, job["name"], made, who().caller)
        else:
            # A reset removes settings that it does not name, so `wanted` keeps the tags and notifications that others have set.
            # Without a service principal run_as stays as it is: no response contains it, and a reset does not change it.
            api().jobs.reset(found.job_id, wanted)


def _keep_one(api: Api, name: str, made: int, caller: str) -> None:
    """Delete the caller's jobs of this name except that with the lowest id, and except those of a bundle.

    The SDK retries after a lost response, and each try creates a job. Two bootstraps at once also create two jobs; both keep the
    same one.
    """
    own = {made, *(job.job_id for job in named(api().jobs, name) if job.creator_user_name == caller)}
    for one in own - {min(own)}:
        with contextlib.suppress(*_gone()):
            if not of_a_bundle(api().jobs.get(one)):
                api().jobs.delete(one)
    find(api, name)


def _gone() -> "tuple[type[Exception], ...]":
    """The API's errors for a job that another bootstrap has deleted."""
    from databricks.sdk.errors import InvalidParameterValue, NotFound

    return InvalidParameterValue, NotFound
