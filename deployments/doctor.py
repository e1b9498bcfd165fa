"""`python -m deployments doctor`: whether a run would start and succeed. One line for each thing that it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import prefect
import pyarrow as pa
import pyarrow.compute as pc
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectException

from car_damage.data import ledger
from car_damage.data.doorbell import fingerprint
from car_damage.errors import CarDamageError
from car_damage.model.environment import has_uv
from car_damage.ports import Platform
from car_damage.settings import Settings
from deployments import champion, home_folder
from deployments.administrator import NotVisible
from deployments.alerts import PREFIX, block_problem
from deployments.bootstrap import HEALTH_TIMEOUT, WORK_POOL, on_the_server, server_url
from deployments.databricks import needs, workspace_checks
from deployments.items import Item
from deployments.stack import workers_online
from tasks.commands import BOOTSTRAP, RETIRE
from tasks.flow_runs import UPDATES, in_state
from tasks.stages import ENDPOINT_LIMIT

OK, WARN, FAIL = "ok", "warn", "FAIL"
FIX = f"`{BOOTSTRAP}` fixes it"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's output."""

    name: str
    state: str
    """ok | warn: a run would still succeed | FAIL: a run would not start, or would fail."""
    detail: str
    """What the check found; for a problem also what to do."""


class _Problem(Exception):
    """A check failed. The message says what is wrong and what to do."""


def doctor(settings: Settings, platform: Platform) -> list[Finding]:
    """Check everything and change nothing."""
    server = _finding("Prefect server", _server)
    findings = [server]
    if server.state != FAIL:
        findings += [_finding(item.name, partial(_item, item), FAIL if item.vital else WARN) for item in on_the_server(settings)]
        findings += [
            _finding("worker", _worker),
            _finding("slots", _slots, WARN),
            _finding("leases", _leases, WARN),
            _finding("password", _password, WARN),
            _finding("switched off", _disabled, WARN),
            _finding("notifications", lambda: _notifications(settings), WARN),
        ]
    findings += in_databricks(settings)
    findings += [
        home := _finding("home folder", lambda: home_folder.check(settings)),
        _finding("landing folder", lambda: _landing(platform)),
    ]
    if home.state != FAIL:
        findings += [
            _finding("tables", lambda: _tables(platform)),
            _finding("photos elsewhere", lambda: _elsewhere(platform), WARN),
            _finding("registry", lambda: _registry(platform)),
            _finding("champion", lambda: champion.check(platform), WARN if has_uv() else FAIL),
        ]
    return [*findings, _finding("endpoint", lambda: _endpoint(platform))]


def in_databricks(settings: Settings) -> list[Finding]:
    """Whom the credentials belong to, and whether everything that a run needs there exists and is permitted."""
    if settings.databricks.stages != "jobs" and settings.databricks.credentials is None:
        return []
    credentials = _finding("Databricks credentials", lambda: workspace_checks.credentials(settings))
    if credentials.state == FAIL or settings.databricks.stages != "jobs":
        return [credentials]
    try:
        items, checks = needs.items(settings), workspace_checks.checks(settings)
    except CarDamageError as error:
        return [credentials, Finding("names in Databricks", FAIL, str(error))]
    return [
        credentials,
        *(_finding(item.name, partial(_item, item), FAIL if item.vital else WARN) for item in items),
        *(_finding(name, check) for name, check in checks.items()),
    ]


def _finding(name: str, check: Callable[[], str], problem: str = FAIL) -> Finding:
    """Run a check; `problem` is the state of the finding when it fails."""
    try:
        return Finding(name, OK, check())
    except NotVisible as error:
        return Finding(name, WARN, str(error))
    except ObjectNotFound:
        return Finding(name, problem, f"is missing on the Prefect server: {FIX}")
    except (_Problem, CarDamageError, PrefectException, httpx.HTTPError, OSError) as error:
        return Finding(name, problem, str(error) or type(error).__name__)


def _item(item: Item) -> str:
    if problem := item.check():
        raise _Problem(f"{problem}: {FIX}")
    return "ok"


def _server() -> str:
    url = server_url()
    with _client() as client:
        try:
            client.request("GET", "/health", timeout=HEALTH_TIMEOUT)
            served = client.api_version()
        except httpx.HTTPStatusError as error:
            raise _Problem(
                f"{url} answers {error.response.status_code}: "
                + ("export PREFECT_API_AUTH_STRING" if error.response.status_code in (401, 403) else "see the server's log")
            ) from error
        except httpx.HTTPError as error:
            raise _Problem(
                f"no server answers at {url} ({type(error).__name__}): start one with `make up`, or correct PREFECT_API_URL"
            ) from error
    if served != prefect.__version__:
        raise _Problem(f"{url} runs Prefect {served}, and this machine {prefect.__version__}: install the same version on both")
    return f"{url}, Prefect {served}"


def _worker() -> str:
    with _client() as client:
        paused = client.read_work_pool(WORK_POOL).is_paused
    online = workers_online(WORK_POOL)
    if not online:
        start = f"start one with `make up`, or `.venv/bin/prefect worker start --pool {WORK_POOL}`"
        raise _Problem(f"none is online on the work pool {WORK_POOL}, so no run starts: {start}")
    if paused:
        raise _Problem(f"the work pool {WORK_POOL} is paused, so no run starts: `.venv/bin/prefect work-pool resume {WORK_POOL}`")
    return f"{', '.join(online)} online on {WORK_POOL}"


def _slots() -> str:
    """Concurrency slots that are taken although no run is active."""
    holding = FlowRunFilter(state=in_state(StateType.PENDING, StateType.RUNNING, StateType.CANCELLING))
    with _client() as client:
        names = [ENDPOINT_LIMIT, *(f"deployment:{one.id}" for one in client.read_deployments() if one.name == "retrain")]
        taken = [name for name in names if client.read_global_concurrency_limit_by_name(name).active_slots > 0]
        if not taken:
            return "all are free"
        if runs := client.read_flow_runs(flow_filter=UPDATES, flow_run_filter=holding, limit=5):
            return f"taken by {', '.join(run.name for run in runs)}"
    raise _Problem(
        f"{', '.join(taken)}: taken, and no run is active. The slot of a killed run becomes free within five minutes; if it does not, "
        f"free it with `.venv/bin/prefect gcl update {taken[0]} --active-slots 0`"
    )


def _disabled() -> str:
    """What is disabled or paused in the UI. That may be on purpose, so bootstrap does not change it."""
    with _client() as client:
        ours = [found for found in client.read_deployments() if "car-damage" in found.tags]
        off = [f"automation {found.name}" for found in client.read_automations() if found.name.startswith(PREFIX) and not found.enabled]
    off += [f"deployment {found.name}" for found in ours if found.paused]
    off += [f"schedule {one.slug} of {found.name}" for found in ours for one in found.schedules if not one.active]
    if off:
        raise _Problem(f"{', '.join(off)}: enable it in the UI, unless it is off on purpose")
    return "nothing"


def _leases() -> str:
    with _client() as client:
        storage = client.request("GET", "/admin/settings").json()["server"]["concurrency"]["lease_storage"]
    if storage.endswith("memory"):
        raise _Problem(
            "the server keeps them in memory, so a restart of the server ends runs and leaves slots taken: start it with "
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem"
        )
    return "kept in files: they survive a restart of the server"


def _password() -> str:
    """Whether the server refuses a client that has no password."""
    answer = httpx.get(f"{server_url()}/admin/version", timeout=HEALTH_TIMEOUT)
    if answer.is_success:
        raise _Problem(
            "the server asks for none, so everybody who reaches it can start any command on the workers: start it with "
            "PREFECT_SERVER_API_AUTH_STRING, and its workers with PREFECT_API_AUTH_STRING"
        )
    return "the server asks for one"


def _notifications(settings: Settings) -> str:
    if settings.alerts.notify is None:
        raise _Problem("nobody is notified when a run fails: set alerts.notify to a Prefect notification block")
    if problem := block_problem(settings.alerts.notify):
        raise _Problem(problem)
    return f"by {settings.alerts.notify}"


def _landing(platform: Platform) -> str:
    fingerprint(platform)
    return f"{platform.settings.landing.folder} can be listed"


def _tables(platform: Platform) -> str:
    names = platform.settings.tables
    if platform.settings.databricks.stages == "jobs":
        return f"not checked here: only the jobs read and write {names.bronze}, {names.silver} and {names.splits}"
    named = (names.bronze, names.silver, names.splits)
    versions = [f"{table} {_version(platform.tables.read(table, ['sha256'])[1])}" for table in named]
    return ", ".join(versions)


def _elsewhere(platform: Platform) -> str:
    """Photos that landed in another folder than the present one, for example before the folder was moved."""
    settings = platform.settings
    if settings.databricks.stages == "jobs":
        return "not checked here: the stage validate counts them in its report"
    rows, _ = platform.tables.read(settings.tables.bronze, ["path", "status"])
    present = rows.filter(pc.is_in(rows["status"].cast(pa.string()), value_set=ledger.PRESENT))
    others = present.num_rows - present.filter(ledger.below(settings.landing.folder, present["path"].cast(pa.string()))).num_rows
    if others:
        raise _Problem(
            f"{others:,} photos of other folders than {settings.landing.folder} are still used: "
            f"`{RETIRE}` takes them out of the training data"
        )
    return "none"


def _version(version: int) -> str:
    return "does not exist yet" if version < 0 else f"version {version}"


def _registry(platform: Platform) -> str:
    live = platform.registry.champion()
    return f"{platform.settings.tracking.model}, {f'champion {live.version}' if live else 'no champion yet'}"


def _endpoint(platform: Platform) -> str:
    state, name = platform.serving.state(), platform.settings.serving.endpoint
    if not state.exists:
        return f"{name}: does not exist yet; the first version that goes live creates it"
    if state.updating:
        return f"{name}: is updating to version {state.pending}"
    if not state.ready:
        raise _Problem(
            f"{name} does not serve{': ' + state.message if state.message else ''}; the next run of retrain restores the champion"
        )
    return f"{name}: READY, serves version {state.served}"


def _client() -> Any:  # its declared type accepts literal paths only

    return get_client(sync_client=True)
