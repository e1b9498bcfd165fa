"""Objects outside Unity Catalog: the experiment, the jobs and the endpoint, and the permissions of the service on them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from car_damage.adapters.databricks import workspace
from car_damage.adapters.databricks.serving import workspace_host
from car_damage.errors import SettingsError
from car_damage.job.jobs import named
from car_damage.settings import Settings
from deployments.administrator import NeedsAdministrator, NotVisible, permitted
from deployments.databricks.existence import create_once
from deployments.databricks.principal import Api, Principal, Who
from deployments.items import ABSENT, LACK, Item


@dataclass(frozen=True)
class RequiredPermission:
    """A permission that the service needs on one object."""

    kind: str
    """The object's kind as in URLs of the permissions API: jobs | experiments | serving-endpoints"""
    named: str
    """The object's kind and name, for messages."""
    levels: tuple[str, ...]
    """The permission level that is needed, then the higher ones that include it."""
    find: Callable[[], str | None]
    """Returns the object's id, or None if it does not exist."""


def experiments(settings: Settings) -> list[str]:
    """The experiment's name, if the tracking server is the workspace's; otherwise nothing."""
    uri = settings.tracking_uri
    return [settings.tracking.experiment] if uri == "databricks" or urlsplit(uri).scheme == "databricks" else []


def experiment_items(settings: Settings, api: Api) -> list[Item]:
    """The experiment must exist."""
    return [
        Item(f"experiment {name}", partial(_check_experiment, api, name), partial(_create_experiment, api, name))
        for name in experiments(settings)
    ]


def permission_items(settings: Settings, api: Api, who: Who) -> list[Item]:
    """The permissions of the principal on the experiment, on the jobs, and on the endpoint if it exists."""
    wanted = [
        RequiredPermission("experiments", f"experiment {name}", ("CAN_EDIT", "CAN_MANAGE"), partial(_experiment, api, name))
        for name in experiments(settings)
    ]
    run = ("CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER")
    wanted += [RequiredPermission("jobs", f"job {name}", run, partial(job_id, api, name)) for name in settings.jobs.values()]
    endpoint = f"endpoint {settings.serving.endpoint}"
    wanted += [RequiredPermission("serving-endpoints", endpoint, ("CAN_MANAGE",), partial(_endpoint, api, settings))]
    return [Item(f"permissions on {one.named}", partial(_check, api, who, one), partial(_grant, api, who, one)) for one in wanted]


def _check(api: Api, who: Who, one: RequiredPermission) -> str | None:
    from databricks.sdk.errors import PermissionDenied

    level = one.levels[0].replace("_", " ")
    lacking = f"{LACK}{level} for {who().name}"
    found = one.find()
    if found is None:  # the caller will own what it creates; a run creates the endpoint
        return None if who().is_caller or one.kind == "serving-endpoints" else lacking
    doing = f"reading the permissions on the {one.named}"
    with workspace.translated(doing, needs="CAN MANAGE on it"):
        try:
            listed = api().permissions.get(one.kind, found).access_control_list or []
        except PermissionDenied as error:
            if who().is_caller:
                raise NotVisible("reading this needs CAN MANAGE on it: an administrator can run `doctor --own-credentials`") from error
            command = _command(one, found, who())
            message = f"{doing} was refused: {workspace.message_of(error)}; it needs CAN MANAGE on it; somebody who has that must make sure"
            raise NeedsAdministrator.to_run(command, f"{message} that {who().name} has {level}: {command}") from error
    names = {who().name, *who().groups}
    ours = [entry for entry in listed if {entry.user_name, entry.service_principal_name, entry.group_name} & names]
    given = {had.permission_level.value for entry in ours for had in entry.all_permissions or [] if had.permission_level}
    return None if given & set(one.levels) else lacking


def _grant(api: Api, who: Who, one: RequiredPermission) -> None:
    from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel

    found = one.find()
    if found is None:
        raise SettingsError(f"the {one.named} {ABSENT}: see above why it was not created")
    request: Any = AccessControlRequest(permission_level=PermissionLevel(one.levels[0]), **{who().kind: who().name})
    with permitted(
        f"giving {one.levels[0]} on the {one.named} to {who().name}", needs="CAN MANAGE on it", command=_command(one, found, who())
    ):
        api().permissions.update(one.kind, found, access_control_list=[request])


def _command(one: RequiredPermission, found: str, who: Principal) -> str:
    given = json.dumps({"access_control_list": [{who.kind: who.name, "permission_level": one.levels[0]}]})
    return f"databricks permissions update {one.kind} {found} --json '{given}'"


def _experiment(api: Api, name: str) -> str | None:
    from databricks.sdk.errors import NotFound

    with workspace.translated(f"reading the experiment {name}", needs="CAN READ on it"):
        try:
            found = api().experiments.get_by_name(name).experiment
        except NotFound:
            return None
    if found.lifecycle_stage == "deleted":  # its name stays taken, and it accepts no runs
        restore = f"databricks experiments restore-experiment {found.experiment_id}"
        raise SettingsError(f"the experiment {name} is deleted: run `{restore}`, or set tracking.experiment to another name")
    return str(found.experiment_id)


def _check_experiment(api: Api, name: str) -> str | None:
    return ABSENT if _experiment(api, name) is None else None


def _create_experiment(api: Api, name: str) -> None:
    from databricks.sdk.errors import NotFound

    folder = str(PurePosixPath(name).parent)
    command = f"databricks experiments create-experiment {name}"
    with permitted(f"creating the experiment {name}", needs=f"CAN EDIT on the folder {folder}", command=command):
        try:
            api().workspace.get_status(folder)
        except NotFound:
            api().workspace.mkdirs(folder)
        create_once(lambda: api().experiments.create_experiment(name))


def job_id(api: Api, name: str) -> str | None:
    """The id of the job, if it exists."""
    with workspace.translated(f"reading the job {name}", needs="CAN VIEW on it"):
        return next((str(job.job_id) for job in named(api().jobs, name)), None)


def _endpoint(api: Api, settings: Settings) -> str | None:
    """The id of the endpoint, if it exists in this workspace."""
    from databricks.sdk.errors import NotFound

    host = workspace_host(settings)
    with workspace.translated(f"reading the endpoint {settings.serving.endpoint}", needs="CAN VIEW on it"):
        if host is not None and urlsplit(host).netloc != urlsplit(api().config.host).netloc:
            return None
        try:
            return str(api().serving_endpoints.get(settings.serving.endpoint).id)
        except NotFound:
            return None
