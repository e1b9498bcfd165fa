"""`car-damage status`: where things stand, as a table."""

from rich.table import Table

from car_damage.commands.terminal import wide_enough
from car_damage.outcome import approve
from car_damage.ports import ModelVersion, Platform
from car_damage.status import Status, look


def status(platform: Platform) -> None:
    """Look at every part and print it."""
    now, settings = look(platform), platform.settings
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("Landing folder", settings.landing.folder)
    rejected = ", ".join(f"{files} {reason}" for reason, files in sorted(now.rejected.items())) or "none"
    bronze = f"{settings.tables.bronze}, {_version(now.bronze_version)}: {now.files} files; rejected: {rejected}"
    if now.elsewhere:
        bronze += f"; {now.elsewhere} more of another landing folder, still in use"
    table.add_row("Bronze", bronze)
    balance = ", ".join(f"{sum(splits.values())} {label}" for label, splits in now.classes.items())
    table.add_row("Silver", f"{settings.tables.silver}, {_version(now.silver_version)}: {now.photos} photos ({balance})")
    table.add_row("Champion", _model(settings.tracking.model, now.champion))
    if now.challenger:
        table.add_row("Challenger", _model(settings.tracking.model, now.challenger) + ", meant to go live by the next run")
    for waiting in now.awaiting:
        table.add_row("Awaiting approval", f"{_model(settings.tracking.model, waiting)}: {approve(waiting.version)}")
    table.add_row("Endpoint", f"{settings.serving.endpoint}: {_endpoint(now)}")
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


def _version(version: int) -> str:
    return "not there yet" if version < 0 else f"version {version}"


def _model(name: str, version: ModelVersion | None) -> str:
    if version is None:
        return "none yet"
    score = version.tags.get("test_macro_f1")
    return f"{name} version {version.version}" + (f", test macro-F1 {float(score):.3f}" if score else "")


def _endpoint(now: Status) -> str:
    state = now.endpoint
    if state is None:
        return now.endpoint_problem
    if not state.exists:
        return "not there yet"
    pending = f", version {state.pending} on its way" if state.pending is not None else ""
    told = f" ({state.message})" if state.message else ""
    served = "no version" if state.served is None else f"version {state.served}"
    return f"{'READY' if state.ready else 'NOT READY'}, serves {served}{pending}{told}"
