"""doctor's checks of the Prefect server, its worker and its slots. Each returns what it found, or raises Problem."""

from typing import Any

import httpx
import prefect
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings

from deployments.alerts import PREFIX
from deployments.bootstrap import HEALTH_TIMEOUT, server_url
from deployments.stack import workers_online
from deployments.work_pool import WORK_POOL
from tasks.flow_runs import UPDATES, in_state
from tasks.stages import ENDPOINT_LIMIT


class Problem(Exception):
    """A check failed. The message says what is wrong and what to do."""


def server() -> str:
    """Whether the server answers, and has this machine's version of Prefect."""
    url = server_url()
    with _client() as client:
        try:
            client.request("GET", "/health", timeout=HEALTH_TIMEOUT)
            served = client.api_version()
        except httpx.HTTPStatusError as error:
            raise Problem(
                f"{url} answers {error.response.status_code}: "
                + ("export PREFECT_API_AUTH_STRING" if error.response.status_code in (401, 403) else "see the server's log")
            ) from error
        except httpx.HTTPError as error:
            raise Problem(
                f"no server answers at {url} ({type(error).__name__}): start one with `make up`, or correct PREFECT_API_URL"
            ) from error
    if served != prefect.__version__:
        raise Problem(f"{url} runs Prefect {served}, and this machine {prefect.__version__}: install the same version on both")
    return f"{url}, Prefect {served}"


def worker() -> str:
    """The workers that are online."""
    with _client() as client:
        paused = client.read_work_pool(WORK_POOL).is_paused
    online = workers_online(WORK_POOL)
    if not online:
        start = f"start one with `make up`, or `.venv/bin/prefect worker start --pool {WORK_POOL}`"
        raise Problem(f"none is online on the work pool {WORK_POOL}, so no run starts: {start}")
    if paused:
        raise Problem(f"the work pool {WORK_POOL} is paused, so no run starts: `.venv/bin/prefect work-pool resume {WORK_POOL}`")
    return f"{', '.join(online)} online on {WORK_POOL}"


def slots() -> str:
    """Concurrency slots that are taken although no run is active."""
    holding = FlowRunFilter(state=in_state(StateType.PENDING, StateType.RUNNING, StateType.CANCELLING))
    with _client() as client:
        names = [ENDPOINT_LIMIT, *(f"deployment:{one.id}" for one in client.read_deployments() if one.name == "retrain")]
        taken = [name for name in names if client.read_global_concurrency_limit_by_name(name).active_slots > 0]
        if not taken:
            return "all are free"
        if runs := client.read_flow_runs(flow_filter=UPDATES, flow_run_filter=holding, limit=5):
            return f"taken by {', '.join(run.name for run in runs)}"
    raise Problem(
        f"{', '.join(taken)}: taken, and no run is active. The slot of a killed run becomes free within five minutes; if it does not, "
        f"free it with `.venv/bin/prefect gcl update {taken[0]} --active-slots 0`"
    )


def disabled() -> str:
    """What is disabled or paused in the UI. That may be on purpose, so bootstrap does not change it."""
    with _client() as client:
        ours = [found for found in client.read_deployments() if "car-damage" in found.tags]
        off = [f"automation {found.name}" for found in client.read_automations() if found.name.startswith(PREFIX) and not found.enabled]
    off += [f"deployment {found.name}" for found in ours if found.paused]
    off += [f"schedule {one.slug} of {found.name}" for found in ours for one in found.schedules if not one.active]
    if off:
        raise Problem(f"{', '.join(off)}: enable it in the UI, unless it is off on purpose")
    return "nothing"


def leases() -> str:
    """Whether leases of slots survive a restart of the server."""
    with _client() as client:
        storage = client.request("GET", "/admin/settings").json()["server"]["concurrency"]["lease_storage"]
    if storage.endswith("memory"):
        raise Problem(
            "the server keeps them in memory, so a restart of the server ends runs and leaves slots taken: start it with "
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem"
        )
    return "kept in files: they survive a restart of the server"


def password() -> str:
    """Whether the server refuses a client that has no password."""
    with temporary_settings(restore_defaults={PREFECT_API_AUTH_STRING, PREFECT_API_KEY}), _client() as nobody:
        try:
            nobody.request("GET", "/admin/version", timeout=HEALTH_TIMEOUT)
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (401, 403):
                return "the server asks for one"
            raise
    raise Problem(
        "the server asks for none, so everybody who reaches it can start any command on the workers: start it with "
        "PREFECT_SERVER_API_AUTH_STRING, and its workers with PREFECT_API_AUTH_STRING"
    )


def _client() -> Any:  # its declared type accepts literal paths only

    return get_client(sync_client=True)
