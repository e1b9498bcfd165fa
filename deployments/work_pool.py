"""The work pool of prefect.yaml: its type, and the template by which its workers start flow runs.

A worker in a container or a pod has neither the folders nor the settings file of the machine that bootstrap runs on. So the template
gives them to a run at the same paths. Whoever runs the workers may change everything in the template: bootstrap notes in it what it has
written, and replaces only that.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound

from car_damage.adapters.databricks.volume import is_elsewhere
from car_damage.errors import SettingsError
from car_damage.server.address import is_local
from car_damage.settings import CONFIG_VARIABLE, PREFIX, Settings, config_file
from deployments.items import ABSENT, DIFFERS, Item
from tasks.commands import BOOTSTRAP

WORK_POOL = "car-damage"
"""The work pool of prefect.yaml."""
USER_ID = 10001
"""The user of the image: deployments/containers/Dockerfile."""
NOTE = "car-damage"
"""The key of the template under which is noted what bootstrap has written there: path -> value."""

_POD = "job_configuration/job_manifest/spec/template/spec"
_CONTAINER = f"{_POD}/containers/0"


def item(settings: Settings) -> Item:
    """The work pool, with the type and the template of these settings."""
    return Item(f"work pool {WORK_POOL}", lambda: _check(settings), lambda: _fix(settings))


def additions(settings: Settings) -> dict[str, Any]:
    """What the template has besides Prefect's own: path in the template, with slashes -> value."""
    if settings.workers.pool == "process":
        return {}
    return _of_docker(settings) if settings.workers.pool == "docker" else _of_kubernetes(settings)


def _of_docker(settings: Settings) -> dict[str, Any]:
    mounts = [f"{path}:{path}{':ro' if read_only else ''}" for path, read_only in _paths(settings).values()]
    # The local endpoint server listens on 127.0.0.1 of the machine.
    network = {_default("network_mode"): "host"} if is_local(settings.serving.host) else {}
    return {_default("env"): _environment(settings), _default("volumes"): mounts, _default("auto_remove"): True, **network}


def _of_kubernetes(settings: Settings) -> dict[str, Any]:
    volumes, mounts = [], []
    for name, (path, read_only) in _paths(settings).items():
        claimed = f"{WORK_POOL}-{name}"
        source = {"configMap": {"name": claimed}} if name == "settings" else {"persistentVolumeClaim": {"claimName": claimed}}
        folder = str(Path(path).parent) if name == "settings" else path  # a config map is mounted as a folder
        volumes.append({"name": name, **source})
        mounts.append({"name": name, "mountPath": folder, "readOnly": read_only})
    return {
        _default("env"): _environment(settings),
        _default("finished_job_ttl"): 3600,  # seconds for which Kubernetes keeps an ended job
        _default("pod_watch_timeout_seconds"): 900,  # a node may have to be started, and to pull the image
        f"{_POD}/securityContext": {"runAsNonRoot": True, "runAsUser": USER_ID, "fsGroup": USER_ID},
        f"{_POD}/volumes": volumes,
        f"{_CONTAINER}/volumeMounts": mounts,
        # Credentials that are in no Prefect block.
        f"{_CONTAINER}/envFrom": [{"secretRef": {"name": WORK_POOL, "optional": True}}],
    }


def _default(variable: str) -> str:
    return f"variables/properties/{variable}/default"


def _uses_home(settings: Settings) -> bool:
    return settings.tables.names == "folders" or settings.tracking.uri is None or is_local(settings.serving.host)


def _paths(settings: Settings) -> dict[str, tuple[str, bool]]:
    """What a flow run needs of the machine: name -> (path, whether it is only read)."""
    config, log = config_file(), settings.monitoring.log_folder
    wanted = {
        "home": (str(settings.home) if _uses_home(settings) else None, False),
        "photos": (settings.landing.folder, True),
        "corrections": (settings.answers.corrections, False),  # the flow forget removes words and photos
        "kept": (settings.answers.keep_for_review, False),
        # In a home folder that runs do not use, nobody notes requests.
        "requests": (None if Path(log).is_relative_to(settings.home) else log, False),
        "settings": (None if config is None else str(config.absolute()), True),
        **{name: (str(Path(path).parent), True) for name, path in settings.training.files.items()},
    }
    found: dict[str, tuple[str, bool]] = {}
    for name, (path, read_only) in wanted.items():
        if path is not None and not is_elsewhere(path) and (name == "settings" or not _has(found, path, read_only)):
            found[name] = (path.rstrip("/"), read_only)
    return found


def _has(mounted: Mapping[str, tuple[str, bool]], path: str, read_only: bool) -> bool:
    return any(Path(path).is_relative_to(folder) and read_only >= only_read for folder, only_read in mounted.values())


def _environment(settings: Settings) -> dict[str, str]:
    config = config_file()
    found = {} if config is None else {CONFIG_VARIABLE: str(config.absolute())}
    if _uses_home(settings):
        # A run that is retried in another container finds the results of its stages.
        found |= {f"{PREFIX}HOME": str(settings.home), "PREFECT_LOCAL_STORAGE_PATH": str(settings.home / "prefect" / "storage")}
    return found


def created(template: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Prefect's own template with these additions."""
    new = deepcopy(dict(template))
    return merged({**new, NOTE: {path: _place(new, path)[0].get(_place(new, path)[1]) for path in wanted}}, wanted)


def merged(template: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The template with these additions. What a person has changed or removed since they were written stays as it is."""
    new = deepcopy(dict(template))
    written = new.pop(NOTE, {})
    for path in sorted({*written, *wanted}):
        place, key = _place(new, path)
        if place.get(key) != written.get(path):
            continue
        if path in wanted:
            place[key] = wanted[path]
        else:
            place.pop(key, None)
    return {**new, NOTE: dict(wanted)} if wanted else new


def _place(template: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The object in the template that holds the last step of the path, and that step."""
    *parents, last = path.split("/")
    place: Any = template
    try:
        for step in parents:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
    except (AttributeError, IndexError, ValueError) as error:
        raise SettingsError(
            f"the template of the work pool {WORK_POOL} has no {path}, which the runs need: put back what was removed there (Work Pools, "
            f"Edit), or delete the pool when no run is active and run `{BOOTSTRAP}`"
        ) from error
    return place, last


def _check(settings: Settings) -> str | None:
    pool = _read()
    if pool is None:
        return ABSENT
    if pool.type != settings.workers.pool:
        raise SettingsError(
            f"the work pool {WORK_POOL} has the type {pool.type}, and workers.pool is {settings.workers.pool}: correct workers.pool, or "
            f"delete the pool when no run is active (`.venv/bin/prefect work-pool delete {WORK_POOL}`), and run `{BOOTSTRAP}`"
        )
    new = merged(pool.base_job_template, additions(settings))
    return None if new == pool.base_job_template else f"{DIFFERS}its template"


def _fix(settings: Settings) -> None:
    pool, wanted = _read(), additions(settings)
    with get_client(sync_client=True) as client:
        if pool is None:
            template = created(_of_prefect(settings.workers.pool), wanted)
            client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type=settings.workers.pool, base_job_template=template))
        else:
            client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=merged(pool.base_job_template, wanted)))


def _read() -> WorkPool | None:
    with get_client(sync_client=True) as client:
        try:
            return client.read_work_pool(WORK_POOL)
        except ObjectNotFound:
            return None


def _of_prefect(kind: str) -> dict[str, Any]:
    """Prefect's own template of a type. The server knows that of every type, whether its package is installed here or not."""
    with get_client(sync_client=True) as client:
        found = client.read_worker_metadata()
    for types in found.values():
        if kind in types:
            template: dict[str, Any] = types[kind]["default_base_job_configuration"]
            return template
    raise SettingsError(f"the Prefect server knows no work pools of the type {kind}: upgrade it, or choose another workers.pool")
