"""Deploys prefect.yaml to the Prefect server, and retires what the file does not contain.

`prefect deploy --all` creates and updates deployments but removes nothing: a schedule that was deleted from the file keeps
firing, and a renamed deployment runs beside the one with the new name. So `make deploy` retires both.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import get_current_settings
from prefect.utilities.templating import apply_values

from car_damage.errors import Terminal
from car_damage.settings import CONFIG_VARIABLE, config_file
from deployments.items import ABSENT
from deployments.release import ROOT, release, version

FILE = ROOT / "prefect.yaml"
TAGS = ["car-damage", "car-damage-doorbell"]
"""Every deployment of the file has one of these tags, which identify our deployments on the server."""
TIMEOUT = 300.0
"""Seconds that `prefect deploy --all` may take."""


@dataclass(frozen=True)
class Server:
    """Our deployments on the server, by name, and the names of their automations."""

    deployments: Mapping[str, DeploymentResponse]
    triggers: Mapping[str, frozenset[str]]


def check(file: Path = FILE) -> str | None:
    """How the server differs from the file, or None."""
    wanted, server = _read(file), _server()
    problems = [problem for name, declared in wanted.items() if (problem := _differs(name, declared, server))]
    problems += [f"{name} is not in {file.name}" for name, found in server.deployments.items() if name not in wanted and not found.paused]
    return "; ".join(problems) or None


def check_code() -> str | None:
    """How the deployed version differs from that of this checkout, or None."""
    ours = version()
    other = sorted({str(found.version) for found in _server().deployments.values() if not found.paused and found.version != ours})
    return f"{', '.join(other)} is deployed, and this checkout is {ours}" if other else None


def deploy(file: Path = FILE) -> None:
    """Deploy everything in the file, then delete schedules and pause deployments that are not in it.

    Raises:
        Terminal: `prefect deploy` failed; the message ends with its output.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | _client() | _settings_file(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Terminal(f"`prefect deploy --all` did not end within {TIMEOUT:.0f} s: check the server with `make doctor`") from error
    if done.returncode:
        raise Terminal(f"`prefect deploy --all` failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    _retire(_read(file))


def _retire(wanted: Mapping[str, Mapping[str, Any]]) -> None:
    server = _server()
    with get_client(sync_client=True) as client:
        for name, found in server.deployments.items():
            kept = {schedule.get("slug") for schedule in wanted.get(name, {}).get("schedules") or []}
            for schedule in found.schedules:
                if schedule.slug not in kept:
                    client.delete_deployment_schedule(found.id, schedule.id)
            if name not in wanted and not found.paused:
                client.update_deployment(found.id, DeploymentUpdate(paused=True))


def _differs(name: str, declared: Mapping[str, Any], server: Server) -> str | None:
    found = server.deployments.get(name)
    if found is None:
        return f"{name} {ABSENT}"
    limit = declared.get("concurrency_limit") or {}
    has = found.global_concurrency_limit.limit if found.global_concurrency_limit else None
    strategy = found.concurrency_options.collision_strategy.value if found.concurrency_options else None
    slugs = {schedule.slug: _deployed(schedule) for schedule in found.schedules}
    wanted = {schedule["slug"]: _declared(schedule) for schedule in declared.get("schedules") or []}
    lost = {trigger["name"] for trigger in declared.get("triggers") or []} - server.triggers[name]
    place = (
        found.work_pool_name,
        found.pull_steps,
        {name: (found.job_variables or {}).get(name) for name in declared["work_pool"]["job_variables"]},
    )
    if place != (declared["work_pool"]["name"], declared["pull"], declared["work_pool"]["job_variables"]):
        return f"{name} starts in another place than the file says, or with other code: {place[0]}, {place[1]}, {place[2]}"
    if slugs != wanted:
        return f"{name} has the schedules {_listed(slugs)} instead of {_listed(wanted)}"
    if (has, strategy) != (limit.get("limit"), limit.get("collision_strategy")):
        return f"{name} has the limit {has} ({strategy}) instead of {limit.get('limit')} ({limit.get('collision_strategy')})"
    return f"{name} lacks the automation {', '.join(sorted(lost))}" if lost else None


def _deployed(schedule: DeploymentSchedule) -> str:
    """A schedule of the server as text. Whether it is paused is left out, because a person may pause it in the UI."""
    fields = schedule.schedule.model_dump(mode="json")
    if "cron" in fields:
        return f"{fields['cron']} {fields['timezone'] or 'UTC'}"
    return f"every {schedule.schedule.interval.total_seconds():.0f} s"  # type: ignore[union-attr]


def _declared(schedule: Mapping[str, Any]) -> str:
    return f"{schedule['cron']} {schedule.get('timezone', 'UTC')}" if "cron" in schedule else f"every {schedule['interval']:.0f} s"


def _listed(schedules: Mapping[Any, str]) -> str:
    return ", ".join(f"{slug} ({when})" for slug, when in schedules.items()) or "none"


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """The deployments of the file by name, each with its pull steps, and with the values of the build step."""
    whole: Any = apply_values(yaml.safe_load(file.read_text()), {"release": release()}, remove_notset=False)
    return {one["name"]: {"pull": whole["pull"], **one} for one in whole["deployments"]}


def _server() -> Server:
    with get_client(sync_client=True) as client:
        found = {
            one.name: one
            for tag in TAGS
            for one in client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[tag])))
        }
        owned = {
            name: frozenset(automation.name for automation in client.read_resource_related_automations(f"prefect.deployment.{one.id}"))
            for name, one in found.items()
        }
    return Server(found, owned)


def _settings_file() -> dict[str, str]:
    """The settings file of this process, for one in another folder."""
    found = config_file()
    return {} if found is None else {CONFIG_VARIABLE: str(found.absolute())}


def _client() -> dict[str, str]:
    """The Prefect settings of this process as environment variables, including those from a profile."""
    return get_current_settings().to_environment_variables(exclude_unset=True)
