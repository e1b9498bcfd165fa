"""`make demo`: the whole pipeline on one machine, from photos in a folder to one prediction of the endpoint.

Starts a Prefect server and the endpoint server, and stops both at the end. The state stays in the home folder, so a second
demo ends with "Nothing new".
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from car_damage.commands import status
from car_damage.commands.terminal import plain
from car_damage.data.photos.splits import TEST
from car_damage.errors import Terminal
from car_damage.platform import Target
from car_damage.ports import Platform, Prediction
from car_damage.settings import CONFIG_FILE, Settings
from deployments import pid_file
from deployments.demo_settings import PLACES, demo_settings, write_settings
from deployments.stack import ENDPOINT_START, endpoint_server, prefect_server
from deployments.variables import assignments, given

UNSEEN_SEED = 20_261
"""Seed of the photo that the demo classifies; no photo in the demo's folder has it."""
SHOWN = "major"
"""Class of that photo."""
TRAINING_PREFIX = "CAR_DAMAGE_TRAINING__"
"""Prefix of the training settings, which the commands after the demo do not need."""
READY_TIMEOUT = 60.0
"""Seconds that a restarted endpoint may take to become ready."""


@dataclass(frozen=True)
class Example:
    """The endpoint's answer for one photo."""

    photo: Path
    label: str
    """The true class."""
    answer: Prediction


def demo(images: Path | None) -> None:
    """Run the whole pipeline and print a summary.

    Args:
        images: a folder of labelled photos; None to draw photos.

    Raises:
        CarDamageError: a step failed; the message says what to do.
    """
    console = plain()
    started = time.monotonic()
    variables = {name: value for name, value in given().items() if not name.startswith(TRAINING_PREFIX)}
    settings, found_by_file = demo_settings(images)
    pid_file.refuse_a_second(settings.home)
    if found_by_file:  # before anything is made there: a demo that is interrupted goes on with the next one
        write_settings(settings, own=images is not None)
        console.print(f"{CONFIG_FILE} names {settings.home} and {settings.landing.folder}: other commands find them by it", soft_wrap=True)
    else:
        variables |= {name: os.environ[name] for name in PLACES}
    with prefect_server(settings.home) as prefect, endpoint_server(settings) as endpoint:
        console.print(f"Starting a Prefect server and the endpoint server; their logs are in {settings.home / 'logs'}", soft_wrap=True)
        os.environ.update(prefect.variables)
        if images is None:
            from deployments.demo_photos import write

            write(Path(settings.landing.folder))
        platform = Target(settings)
        _prepare(platform)  # while the servers start
        prefect.await_ready()
        endpoint.await_ready(ENDPOINT_START)
        ending = _run_flow()
        # The first commands of the README classify this photo, also where the demo has other photos to show.
        unseen = _draw_unseen(settings.home if images is None else settings.home.parent)
        example = None
        if platform.registry.champion():
            example = _predict(platform, *((unseen, SHOWN) if images is None else _test_photo(platform)))
        _summary(console, settings, status.look(platform), example)
        _next(console, variables, settings.landing.folder, example is not None)
    console.print(f"{ending}  ({time.monotonic() - started:.0f} s in total)", style="bold", soft_wrap=True)


def _prepare(platform: Platform) -> None:
    """Do what takes seconds and needs no server: imports, and creating the tables of MLflow's store."""
    import flows.retrain  # noqa: F401 - Prefect first, because its logging set-up closes handlers that are already open
    from car_damage.model.networks import startup

    platform.registry.champion()
    startup.import_quietly()


def _run_flow() -> str:
    from prefect.logging.handlers import APILogHandler

    from deployments.bootstrap import limits
    from deployments.items import bootstrap
    from flows.retrain import retrain
    from tasks import by_hand

    bootstrap(limits())
    state = by_hand.run(retrain)
    APILogHandler().flush()  # send the last log lines before the server stops
    if not state.is_completed():
        raise Terminal(f"the flow ended {state.name}: {state.message}")
    return f"{state.name}: {state.message}"


def _draw_unseen(folder: Path) -> Path:
    from deployments.demo_photos import photo

    path = folder / f"unseen_{SHOWN}.jpg"
    path.write_bytes(photo(SHOWN, UNSEEN_SEED))
    return path


def _predict(platform: Platform, path: Path, label: str) -> Example:
    """Classify a photo that the model was not trained on."""
    deadline = time.monotonic() + READY_TIMEOUT
    while not platform.serving.state().ready and time.monotonic() < deadline:
        platform.clock.sleep(platform.settings.serving.poll)
    return Example(path, label, platform.serving.query([path.read_bytes()])[0])


def _test_photo(platform: Platform) -> tuple[Path, str]:
    silver, _ = platform.tables.read(platform.settings.tables.silver, ["path", "label", "split"])
    test = silver.filter(pc.equal(silver["split"], TEST)).sort_by("path")
    worst = test.filter(pc.equal(test["label"], platform.settings.labels.classes[-1]))
    row = (worst if worst.num_rows else test).slice(0, 1).to_pylist()[0]
    return Path(row["path"]), row["label"]


def _summary(console: Console, settings: Settings, now: status.Status, example: Example | None) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Files seen", str(now.files))
    table.add_row("Accepted", str(now.accepted))
    table.add_row("Rejected", "\n".join(f"{count} {reason}" for reason, count in sorted(now.rejected.items())) or "none")
    balance = ", ".join(f"{sum(splits.values())} {label}" for label, splits in now.classes.items())
    table.add_row("Silver table", f"{now.photos} rows ({balance})")
    if now.champion:
        run = next((run for run in now.runs if run.run_id == now.champion.run_id), None)
        for name, value in sorted(run.metrics.items() if run else ()):
            if name.startswith("test_"):
                table.add_row(name.replace("_", " ").capitalize(), f"{value:.0f}" if name == "test_photos" else f"{value:.3f}")
        table.add_row("Registered version", f"{settings.tracking.model} version {now.champion.version}, champion")
    table.add_row("Endpoint", f"{settings.serving.endpoint}: {status.endpoint_in_words(now)}")
    if example:
        table.add_row("Photo", f"{example.photo} (true class {example.label}; not trained on)")
        table.add_row("Probabilities", ", ".join(f"{name} {value:.2f}" for name, value in example.answer.probabilities.items()))
    console.print(table)
    console.print(f"Predicted class: {example.answer.label}" if example else "No version is live, so no photo was classified", style="bold")
    console.print(f"Everything is in {settings.home}: tables/, mlflow.db, artifacts/, endpoint/, logs/", soft_wrap=True)


def _next(console: Console, variables: Mapping[str, str], landing: str, is_live: bool) -> None:
    if variables:
        console.print(f"For the next commands: export {assignments(variables)}", soft_wrap=True)
    ask = ".venv/bin/car-damage serve &   then   .venv/bin/car-damage predict PHOTO   and   .venv/bin/car-damage status"
    more = f"add photos to {landing} and run this command again; .venv/bin/car-damage status shows the version that was trained"
    console.print(f"Next: {ask if is_live else more}", soft_wrap=True)
