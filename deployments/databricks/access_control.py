"""What is no securable of Unity Catalog: the experiment, the jobs and the endpoint, and what the service may do with them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from car_damage.adapters.databricks import workspace
from car_damage.adapters.databricks.serving import workspace_host
from car_damage.errors import SettingsError
from car_damage.job.jobs import named
from car_damage.settings import Settings
from deployments.administrator import NeedsAdministrator, Unseen, permitted
from deployments.databricks.presence import once
from deployments.databricks.principal import Principal
from deployments.items import ABSENT, LACK, Item

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient


@dataclass(frozen=True)
class Level:
    """A permission on one object."""

    kind: str
    """As addresses have it: jobs | experiments | serving-endpoints"""
    named: str
    """What it is, for messages."""
    levels: tuple[str, ...]
    """The one that is needed, and those that are more."""
    find: Callable[[], str | None]
    """Its id, or None: it is not there."""


def experiments(settings: Settings) -> list[str]:
    """The experiment, where the tracking server is the workspace's."""
    uri = settings.tracking_uri
    return [settings.tracking.experiment] if uri == "databricks" or urlsplit(uri).scheme == "databricks" else []


def experiment_items(settings: Settings, api: "Callable[[], WorkspaceClient]") -> list[Item]:
    """The experiment, found or made."""
    return [
        Item(f"experiment {name}", partial(_look_at_experiment, api, name), partial(_make_experiment, api, name))
        for name in experiments(settings)
    ]


def permission_items(settings: Settings, api: "Callable[[], WorkspaceClient]", who: Callable[[], Principal]) -> list[Item]:
    """What the principal may do with the experiment, the jobs, and an endpoint that is there."""
    ours = settings.databricks
    wanted = [
        Level("experiments", f"experiment {name}", ("CAN_EDIT", "CAN_MANAGE"), partial(_experiment, api, name))
        for name in experiments(settings)
    ]
    run = ("CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER")
    wanted += [Level("jobs", f"job {name}", run, partial(_job, api, name)) for name in (ours.ingest_job, ours.train_job, ours.score_job)]
    endpoint = settings.serving.endpoint
    wanted += [Level("serving-endpoints", f"endpoint {endpoint}", ("CAN_MANAGE",), partial(_endpoint, api, settings))]
    return [Item(f"permissions on {one.named}", partial(_look, api, who, one), partial(_permit, api, who, one)) for one in wanted]


def _look(api: "Callable[[], WorkspaceClient]", who: Callable[[], Principal], one: Level) -> str | None:
    from databricks.sdk.errors import PermissionDenied

    lacking = f"{LACK}{one.levels[0].replace('_', ' ')} for {who().name}"
    found = one.find()
    if found is None:  # what the caller makes will be its own; and an endpoint is made by a run
        return None if who().is_caller or one.kind == "serving-endpoints" else lacking
    doing = f"looking at the permissions on the {one.named}"
    with workspace.translated(doing, needs="CAN MANAGE on it"):
        try:
            listed = api().permissions.get(one.kind, found).access_control_list or []
        except PermissionDenied as error:
            if who().is_caller:
                raise Unseen("only who has CAN MANAGE on it sees that: an administrator's `doctor --own-credentials` tells it") from error
            command = _command(one, found, who())
            whether = f"who has CAN MANAGE on it sees whether {who().name} has {one.levels[0].replace('_', ' ')}"
            told = f"{doing} was refused: {workspace.message_of(error)}; {whether}, and if not runs: {command}"
            raise NeedsAdministrator.to_run(command, told) from error
    names = {who().name, *who().groups}
    ours = [entry for entry in listed if {entry.user_name, entry.service_principal_name, entry.group_name} & names]
    given = {had.permission_level.value for entry in ours for had in entry.all_permissions or [] if had.permission_level}
    return None if given & set(one.levels) else lacking


def _permit(api: "Callable[[], WorkspaceClient]", who: Callable[[], Principal], one: Level) -> None:
    from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel

    found = one.find()
    if found is None:
        raise SettingsError(f"the {one.named} is not there: see above why it was not made")
    request: Any = AccessControlRequest(permission_level=PermissionLevel(one.levels[0]), **{who().kind: who().name})
    with permitted(
        f"giving {one.levels[0]} on the {one.named} to {who().name}", needs="CAN MANAGE on it", command=_command(one, found, who())
    ):
        api().permissions.update(one.kind, found, access_control_list=[request])


def _command(one: Level, found: str, who: Principal) -> str:
    given = json.dumps({"access_control_list": [{who.kind: who.name, "permission_level": one.levels[0]}]})
    return f"databricks permissions update {one.kind} {found} --json '{given}'"


def _experiment(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    from databricks.sdk.errors import NotFound

    with workspace.translated(f"looking at the experiment {name}", needs="CAN READ on it"):
        try:
            found = api().experiments.get_by_name(name).experiment
        except NotFound:
            return None
    if found.lifecycle_stage == "deleted":  # which still has its name, and takes no runs
        restore = f"databricks experiments restore-experiment {found.experiment_id}"
        raise SettingsError(f"the experiment {name} is deleted: run `{restore}`, or set tracking.experiment to another name")
    return str(found.experiment_id)


def _look_at_experiment(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    return ABSENT if _experiment(api, name) is None else None


def _make_experiment(api: "Callable[[], WorkspaceClient]", name: str) -> None:
    from databricks.sdk.errors import NotFound

    folder = str(PurePosixPath(name).parent)
    command = f"databricks experiments create-experiment {name}"
    with permitted(f"creating the experiment {name}", needs=f"CAN EDIT on the folder {folder}", command=command):
        try:
            api().workspace.get_status(folder)
        except NotFound:
            api().workspace.mkdirs(folder)
        once(lambda: api().experiments.create_experiment(name))


def _job(api: "Callable[[], WorkspaceClient]", name: str) -> str | None:
    with workspace.translated(f"looking at the job {name}", needs="CAN VIEW on it"):
        return next((str(job.job_id) for job in named(api().jobs, name)), None)


def _endpoint(api: "Callable[[], WorkspaceClient]", settings: Settings) -> str | None:
    """The id of the endpoint, if it is this workspace's."""
    from databricks.sdk.errors import NotFound

    host = workspace_host(settings)
    with workspace.translated(f"looking at the endpoint {settings.serving.endpoint}", needs="CAN VIEW on it"):
        if host is not None and urlsplit(host).netloc != urlsplit(api().config.host).netloc:
            return None
        try:
            return str(api().serving_endpoints.get(settings.serving.endpoint).id)
        except NotFound:
            return None
