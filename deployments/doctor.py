"""`python -m deployments doctor`: whether a run would start and succeed. One line for each thing that it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import httpx
import pyarrow as pa
import pyarrow.compute as pc
from prefect.exceptions import ObjectNotFound, PrefectException

from car_damage.data.doorbell import fingerprint
from car_damage.data.photos import ledger
from car_damage.errors import CarDamageError
from car_damage.model.networks import backbone
from car_damage.model.served.environment import has_uv
from car_damage.ports import Platform
from car_damage.settings import Settings
from car_damage.stages.training import network
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


def doctor(settings: Settings, platform: Platform, looking: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Check everything. Only a home folder that has moved is changed, as by every command: the paths stored in it are rewritten.

    Once the workspace has refused the credentials, or has not answered, it is asked nothing else.

    Args:
        settings: the settings.
        platform: the platform of the settings.
        looking: called with the name of each check before it begins.
    """
    look = partial(_finding, looking=looking)
    findings = [server := look("Prefect server", prefect_checks.server)]
    if server.state != FAIL:
        findings += [look(item.name, partial(_item, item), FAIL if item.vital else WARN) for item in on_the_server(settings)]
        findings += [
            look("worker", prefect_checks.worker),
            look("slots", prefect_checks.slots, WARN),
            look("leases", prefect_checks.leases, WARN),
            look("password", prefect_checks.password, WARN),
            look("switched off", prefect_checks.disabled, WARN),
            look("notifications", lambda: _notifications(settings), WARN),
        ]
    workspace = in_databricks(settings, looking)
    findings += [*workspace, home := look("home folder", lambda: home_folder.check(settings))]
    checks = {
        "landing folder": (partial(_landing, platform), FAIL),
        "tables": (partial(_tables, platform), FAIL),
        "photos elsewhere": (partial(_elsewhere, platform), WARN),
        "backbone": (partial(_backbone, platform), FAIL),
        "registry": (partial(_registry, platform), FAIL),
        "champion": (partial(champion.check, platform), WARN if has_uv() else FAIL),
        "endpoint": (partial(_endpoint, platform), FAIL),
    }
    if home.state == FAIL:
        checks = {name: checks[name] for name in ("landing folder", "endpoint")}
    out_of_reach = workspace_checks.asking(settings) if workspace and workspace[0].state == FAIL else frozenset()
    findings += [look(name, check, problem) for name, (check, problem) in checks.items() if name not in out_of_reach]
    if unasked := [name for name in checks if name in out_of_reach]:
        findings.append(Finding("rest of the workspace", WARN, f"not asked, because its credentials failed: {', '.join(unasked)}"))
    return findings


def in_databricks(settings: Settings, looking: Callable[[str], None] = lambda _: None) -> list[Finding]:
    """Whom the credentials belong to, and whether everything that a run needs there exists and is permitted."""
    jobs = settings.databricks.stages == "jobs"
    if not (jobs or settings.databricks.credentials or workspace_checks.asking(settings)):
        return []
    look = partial(_finding, looking=looking)
    credentials = look("Databricks credentials", lambda: workspace_checks.credentials(settings))
    if credentials.state == FAIL or not jobs:
        return [credentials]
    try:
        items, checks = needs.items(settings), workspace_checks.checks(settings)
    except CarDamageError as error:
        return [credentials, Finding("names in Databricks", FAIL, str(error))]
    return [
        credentials,
        *(look(item.name, partial(_item, item), FAIL if item.vital else WARN) for item in items),
        *(look(name, check) for name, check in checks.items()),
        *(look(name, check, WARN) for name, check in workspace_checks.advice(settings).items()),
    ]


def _finding(name: str, check: Callable[[], str], problem: str = FAIL, looking: Callable[[str], None] = lambda _: None) -> Finding:
    """Run a check; `problem` is the state of the finding when it fails."""
    looking(name)
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
    others = present.num_rows - present.filter(ledger.looked_at(settings, present["path"].cast(pa.string()))).num_rows
    if others:
        raise prefect_checks.Problem(
            f"{others:,} photos of other folders than {settings.landing.folder} are still used: "
            f"`{RETIRE}` takes them out of the training data"
        )
    return "none"


def _version(version: int) -> str:
    return "does not exist yet" if version < 0 else f"version {version}"


def _backbone(platform: Platform) -> str:
    here = platform.settings.databricks.stages == "here"
    return network.told(platform, lambda training: backbone.check(training, platform.files, here=here))


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
