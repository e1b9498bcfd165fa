"""`car-damage status`: print the state of tables, versions, endpoint and latest runs."""

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from car_damage.commands.terminal import wide_enough
from car_damage.data.photos.ledger import REJECTED, VALID
from car_damage.errors import CarDamageError
from car_damage.ports import EndpointState, ModelVersion, Platform, RowCounts, RunSummary
from car_damage.promotion.tags import MONITORED, decided_of, waits_for_approval
from car_damage.settings import CONFIG_FILE, config_file

LATEST_RUNS = 5


@dataclass(frozen=True)
class Status:
    """State of tables, versions, endpoint and latest runs."""

    bronze: RowCounts
    """By status, reason, and whether the file is in the landing folder."""
    silver: RowCounts
    """By label and split."""
    files: int
    """Files in the landing folder that have a verdict."""
    corrections: int
    """Valid files in the corrections folder."""
    elsewhere: int
    """Valid files in other landing folders, from times when the setting had another value. They are still used."""
    rejected: dict[str, int]
    """Reason -> files."""
    classes: dict[str, dict[str, int]]
    """Label -> split -> photos."""
    champion: ModelVersion | None
    challenger: ModelVersion | None
    runs: tuple[RunSummary, ...]
    versions: dict[str, ModelVersion]
    """Run id -> the version that the run registered."""
    awaiting: tuple[ModelVersion, ...]
    """Versions that wait for a person's approval."""
    endpoint: EndpointState | None
    """None if the endpoint does not answer."""
    endpoint_problem: str
    """Why the endpoint does not answer."""

    @property
    def accepted(self) -> int:
        return self.files - sum(self.rejected.values())

    @property
    def photos(self) -> int:
        return sum(sum(splits.values()) for splits in self.classes.values())


def look(platform: Platform) -> Status:
    """Read the state. An endpoint that does not answer is part of the state; a failure of any other part is an error."""
    names = platform.settings.tables
    bronze = platform.census.count(names.bronze, ["status", "reason"], platform.settings.landing.folder)
    corrected = platform.census.count(names.bronze, ["status"], platform.settings.answers.corrections)
    silver = platform.census.count(names.silver, ["label", "split"])
    rows = bronze.rows or {}
    runs, champion = tuple(platform.tracking.recent(LATEST_RUNS)), platform.registry.champion()
    versions_of = {run.run_id: platform.registry.versions_for(run.run_id) for run in runs}
    versions = {run_id: decided_of(some) or some[0] for run_id, some in versions_of.items() if some}
    endpoint, problem = None, ""
    try:
        endpoint = platform.serving.state()
    except CarDamageError as error:
        problem = str(error)
    return Status(
        bronze=bronze,
        silver=silver,
        files=sum(number for (state, _, here), number in rows.items() if here and state in {VALID, REJECTED}),
        corrections=(corrections := (corrected.rows or {}).get((VALID, True), 0)),
        elsewhere=sum(number for (state, _, here), number in rows.items() if not here and state == VALID) - corrections,
        rejected={str(reason): number for (state, reason, here), number in rows.items() if here and state == REJECTED},
        classes={label: _splits(silver, label) for label in platform.settings.labels.classes} if silver.exists else {},
        champion=champion,
        challenger=platform.registry.challenger(),
        runs=runs,
        versions=versions,
        awaiting=tuple(version for version in versions.values() if waits_for_approval(version, champion)),
        endpoint=endpoint,
        endpoint_problem=problem,
    )


def status(platform: Platform) -> None:
    """Read the state and print it."""
    now, settings = look(platform), platform.settings
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a path is shown whole
    table.add_row("Settings", _settings())
    table.add_row("Landing folder", settings.landing.folder)
    rejected = ", ".join(f"{files} {reason}" for reason, files in sorted(now.rejected.items())) or "none"
    bronze = f"{now.files} files; rejected: {rejected}"
    if now.corrections:
        bronze += f"; {now.corrections} more from the corrections folder"
    if now.elsewhere:
        bronze += f"; {now.elsewhere} more from other landing folders, still used"
    table.add_row("Bronze", _table(settings.tables.bronze, now.bronze, bronze))
    balance = ", ".join(f"{sum(splits.values())} {label}" for label, splits in now.classes.items())
    table.add_row("Silver", _table(settings.tables.silver, now.silver, f"{now.photos} photos ({balance})"))
    table.add_row("Champion", _model(settings.tracking.model, now.champion))
    if now.champion and (said := now.champion.tags.get(MONITORED)):
        table.add_row("Monitoring", said)
    if now.challenger:
        table.add_row("Challenger", _model(settings.tracking.model, now.challenger) + ", goes live with the next run")
    for waiting in now.awaiting:
        table.add_row("Awaiting approval", f"{_model(settings.tracking.model, waiting)}; the flow promote takes it live")
    table.add_row("Endpoint", f"{settings.serving.endpoint}: {endpoint_in_words(now)}")
    console = wide_enough()
    console.print(table)
    if now.runs:
        runs = Table("training run", "started (UTC)", "state", "version", "test macro-F1", box=None, padding=(0, 2), title_justify="left")
        for run in now.runs:
            score = run.metrics.get("test_macro_f1")
            version = now.versions.get(run.run_id)
            number = str(version.version) if version else ""
            runs.add_row(run.name, f"{run.started:%Y-%m-%d %H:%M}", run.status, number, "" if score is None else f"{score:.3f}")
        console.print(runs)


def _settings() -> str:
    """Where the settings of this process come from."""
    file, here = config_file(), Path.cwd()
    return str(file.absolute()) if file else f"the defaults, because there is no {CONFIG_FILE} in {here}"


def _table(name: str, counts: RowCounts, rows: str) -> str:
    """What is in a table, or that only the jobs see it."""
    state = "does not exist yet" if not counts.exists else "exists" if counts.version is None else f"version {counts.version}"
    if counts.rows is None:
        return f"{name}, {state}; its rows are not looked at here: only the jobs open tables, or the SQL warehouse of databricks.warehouse"
    return f"{name}, {state}: {rows}"


def _model(name: str, version: ModelVersion | None) -> str:
    if version is None:
        return "none yet"
    score = version.tags.get("test_macro_f1")
    return f"{name} version {version.version}" + (f", test macro-F1 {float(score):.3f}" if score else "")


def endpoint_in_words(now: Status) -> str:
    """The state of the endpoint, or why it does not answer."""
    state = now.endpoint
    if state is None:
        return now.endpoint_problem
    if not state.exists:
        return "does not exist yet"
    pending = f", version {state.pending} is being deployed" if state.pending is not None else ""
    message = f" ({state.message})" if state.message else ""
    served = "no version" if state.served is None else f"version {state.served}"
    return f"{'READY' if state.ready else 'NOT READY'}, serves {served}{pending}{message}"


def _splits(silver: RowCounts, label: str) -> dict[str, int]:
    return {str(split): number for (of, split), number in (silver.rows or {}).items() if of == label}
