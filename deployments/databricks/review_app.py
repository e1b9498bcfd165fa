"""The Databricks App with the endpoint's page: what it may touch, and its files. Only if `databricks.app` names one.

An update of an app replaces all of it, so what others have set stays: it is read first. A folder in the workspace has each version of the
files, by their digest. Sources: https://docs.databricks.com/api/workspace/apps,
https://docs.databricks.com/aws/en/dev-tools/databricks-apps/uc-volumes, bundle/run/app.go of databricks/cli
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_damage.adapters.databricks import workspace
from car_damage.adapters.databricks.volume import Volume
from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.administrator import permitted
from deployments.databricks.differences import differing
from deployments.databricks.principal import Api, Who
from deployments.databricks.unity_catalog import volume_of
from deployments.items import ABSENT, DIFFERS, Item
from tasks.commands import BOOTSTRAP

if TYPE_CHECKING:
    from databricks.sdk.service.apps import App, AppResource

FILES = Path(__file__).parent / "app"
NAMES = ("app.yaml", "app.py", "requirements.txt")
RESOURCES = ("landing", "corrections", "kept", "endpoint")
"""The resources that are ours, whatever else the app has."""
_NEEDS = "CAN MANAGE on the app, or permission to create apps; and MANAGE on the volumes and the endpoint that it uses"


def items(settings: Settings, api: Api, who: Who, wheel: str) -> list[Item]:
    """The app. No run fails without it.

    Args:
        settings: of this target.
        api: the workspace.
        who: whose folder gets the files.
        wheel: path of the wheel on its volume.
    """
    name = settings.databricks.app
    if name is None:
        return []
    return [
        Item(f"app {name}", partial(_check, api, settings), partial(_write, api, settings), vital=False),
        Item(
            f"files of the app {name}",
            partial(_check_files, api, settings, wheel),
            partial(_deploy, api, who, settings, wheel),
            vital=False,
        ),
    ]


def variables(settings: Settings) -> dict[str, str]:
    """The settings that the app needs, as variables."""
    answers = settings.answers
    found = {
        "SERVING__HOST": "databricks",
        "SERVING__ENDPOINT": settings.serving.endpoint,
        "DATABRICKS__STAGES": "jobs",
        "LANDING__FOLDER": settings.landing.folder,
        "LABELS__CLASSES": json.dumps(settings.labels.classes),
        "LABELS__ALIASES": json.dumps(settings.labels.aliases),
        "ANSWERS__CORRECTIONS": answers.corrections,
        "ANSWERS__KEEP_DAYS": str(answers.keep_days),
        "ANSWERS__KEEP_PHOTOS": str(answers.keep_photos),
        "ANSWERS__KEEP_BYTES": str(answers.keep_bytes),
    }
    if answers.keep_for_review:
        found["ANSWERS__KEEP_FOR_REVIEW"] = answers.keep_for_review
    return {f"CAR_DAMAGE_{name}": value for name, value in found.items()}


def _resources(api: Api, settings: Settings) -> "list[AppResource]":
    """What Databricks gives to the app's own service principal. The endpoint only once it is there: the first run creates it."""
    from databricks.sdk.errors import NotFound
    from databricks.sdk.service.apps import AppResource

    answers, endpoint = settings.answers, settings.serving.endpoint
    volumes = {"landing": (settings.landing.folder, "READ_VOLUME"), "corrections": (answers.corrections, "WRITE_VOLUME")}
    if answers.keep_for_review and volume_of(answers.keep_for_review) != volume_of(answers.corrections):
        volumes["kept"] = (answers.keep_for_review, "WRITE_VOLUME")
    named = {key: (volume_of(folder), permission) for key, (folder, permission) in volumes.items()}
    found: list[dict[str, Any]] = [
        {"name": key, "uc_securable": {"securable_full_name": volume, "securable_type": "VOLUME", "permission": permission}}
        for key, (volume, permission) in named.items()
        if volume
    ]
    with workspace.translated(f"reading the endpoint {endpoint}", needs="CAN VIEW on it"):
        try:
            api().serving_endpoints.get(endpoint)
            found.append({"name": "endpoint", "serving_endpoint": {"name": endpoint, "permission": "CAN_QUERY"}})
        except NotFound:
            pass
    return [AppResource.from_dict(one) for one in found]


def _app(api: Api, settings: Settings) -> "App | None":
    from databricks.sdk.errors import NotFound

    with workspace.translated(f"reading the app {settings.databricks.app}", needs="CAN USE on it"):
        try:
            return api().apps.get(str(settings.databricks.app))
        except NotFound:
            return None


def _check(api: Api, settings: Settings) -> str | None:
    app = _app(api, settings)
    if app is None:
        return ABSENT
    has = {one.name: one.as_dict() for one in app.resources or []}
    wanted = {one.name: one.as_dict() for one in _resources(api, settings)}
    wrong = sorted(name for name in RESOURCES if differing(wanted.get(name), has.get(name)))
    return f"{DIFFERS}its resources {', '.join(wrong)}" if wrong else None


def _write(api: Api, settings: Settings) -> None:
    from databricks.sdk.service.apps import App

    name, there = str(settings.databricks.app), _app(api, settings)
    wanted = _resources(api, settings)
    with permitted(f"writing the app {name}", needs=_NEEDS, command=BOOTSTRAP):
        if there is None:
            about = "Answers of the car damage model, and what people say about them."
            api().apps.create_and_wait(App(name, description=about, resources=wanted))
            return
        others = [one for one in there.resources or [] if one.name not in RESOURCES]
        settable = {field: getattr(there, field) for field in ("description", "budget_policy_id", "user_api_scopes", "compute_size")}
        api().apps.update(name, App(name, resources=[*others, *wanted], **settable))


def _files(settings: Settings, wheel: str) -> dict[str, bytes]:
    """The files of the app, without the wheel."""
    found = {name: (FILES / name).read_bytes() for name in NAMES}
    return found | {"requirements.txt": found["requirements.txt"] + f"./{Path(wheel).name}\n".encode()}


def _version(settings: Settings, wheel: str) -> str:
    told = {name: data.decode() for name, data in _files(settings, wheel).items()} | variables(settings)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _check_files(api: Api, settings: Settings, wheel: str) -> str | None:
    app = _app(api, settings)
    # A stopped app may have no deployment, and starts with the files of the last one.
    deployed = app and (app.active_deployment.source_code_path if app.active_deployment else app.default_source_code_path)
    if not deployed:
        return ABSENT
    version = _version(settings, wheel)
    return None if deployed.endswith(f"/{version}") else f"{DIFFERS}{deployed} -> {version}"


def _deploy(api: Api, who: Who, settings: Settings, wheel: str) -> None:
    from databricks.sdk.service.apps import AppDeployment, EnvVar
    from databricks.sdk.service.workspace import ImportFormat

    name, app = str(settings.databricks.app), _app(api, settings)
    if app is None:
        raise SettingsError(f"the app {name} {ABSENT}: see above why it was not created")
    folder = f"/Users/{who().caller}/{name}/{_version(settings, wheel)}"
    files = _files(settings, wheel) | {Path(wheel).name: Volume(api).read(wheel)}
    given = [EnvVar(variable, value) for variable, value in variables(settings).items()]
    with permitted(f"deploying the app {name}", needs=_NEEDS, command=BOOTSTRAP):
        api().workspace.mkdirs(folder)
        for file, data in files.items():
            api().workspace.import_(f"{folder}/{file}", content=base64.b64encode(data).decode(), format=ImportFormat.RAW, overwrite=True)
        with _running(api, app):
            api().apps.deploy_and_wait(name, AppDeployment(source_code_path=f"/Workspace{folder}", env_vars=given))


@contextmanager
def _running(api: Api, app: "App") -> Iterator[None]:
    """Only an app that runs can be deployed to. One that was stopped costs nothing, so it is stopped again."""
    from databricks.sdk.errors import OperationFailed
    from databricks.sdk.service.apps import AppDeploymentState, ComputeState

    stopped = app.compute_status is not None and app.compute_status.state is ComputeState.STOPPED
    running = api().apps.start_and_wait(app.name) if stopped else app
    for begun in (running.active_deployment, running.pending_deployment):
        if begun and begun.status and begun.status.state is AppDeploymentState.IN_PROGRESS:
            with suppress(OperationFailed):  # the files of before: others take their place
                api().apps.wait_get_deployment_app_succeeded(app.name, str(begun.deployment_id))
    try:
        yield
    finally:
        if stopped:
            api().apps.stop_and_wait(app.name)
