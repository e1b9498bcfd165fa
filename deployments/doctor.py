"""`python -m deployments doctor`: whether a run would start and succeed. One line for each thing that it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import httpx
import pyarrow as pa
import pyarrow.compute as pc
from prefect.exceptions import ObjectNotFound, PrefectException

from car_damage.data import ledger
from car_damage.data.doorbell import fingerprint
from car_damage.errors import CarDamageError
from car_damage.model.environment import has_uv
from car_damage.ports import Platform
from car_damage.settings import Settings
from deployments import champion, home_folder, prefect_checks
from deployments.administrator import NotVisible
from deployments.alerts import block_problem
from deployments.bootstrap import on_the_server
from deployments.databricks import needs, workspace_checks
from deployments.items import Item
from tasks.commands import BOOTSTRAP, RETIRE

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


def doctor(settings: Settings, platform: Platform) -> list[Finding]:
    """Check everything. Only a home folder that has moved is changed, as by every command: the paths stored in it are rewritten."""
    server = _finding("Prefect server", prefect_checks.server)
    findings = [server]
    if server.state != FAIL:
        findings += [_finding(item.name, partial(_item, item), FAIL if item.vital else WARN) for item in on_the_server(settings)]
        findings += [
            _finding("worker", prefect_checks.worker),
            _finding("slots", prefect_checks.slots, WARN),
            _finding("leases", prefect_checks.leases, WARN),
            _finding("password", prefect_checks.password, WARN),
            _finding("switched off", prefect_checks.disabled, WARN),
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
        *(_finding(name, check, WARN) for name, check in workspace_checks.advice(settings).items()),
    ]


def _finding(name: str, check: Callable[[], str], problem: str = FAIL) -> Finding:
    """Run a check; `problem` is the state of the finding when it fails."""
    try:
        return Finding(name, OK, check())
    except NotVisible as error:
        return Finding(name, WARN, str(error))
    except ObjectNotFound:
        return Finding(name, problem, f"is missing on the Prefect server: {FIX}")
    except (prefect_checks.Problem, CarDamageError, PrefectException, httpx.HTTPError, OSError) as error:
        return Finding(name, problem, str(error) or type(error).__name__)


def _item(item: Item) -> str:
    if problem := item.check():
        raise prefect_checks.Problem(f"{problem}: {FIX}")
    return "ok"


def _notifications(settings: Settings) -> str:
    if settings.alerts.notify is None:
        raise prefect_checks.Problem("nobody is notified when a run fails: set alerts.notify to a Prefect notification block")
    if problem := block_problem(settings.alerts.notify):
        raise prefect_checks.Problem(problem)
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
        raise prefect_checks.Problem(
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
        raise prefect_checks.Problem(
            f"{name} does not serve{': ' + state.message if state.message else ''}; the next run of retrain restores the champion"
        )
    return f"{name}: READY, serves version {state.served}"
