"""`make demo`: the whole pipeline on one machine, from photos in a folder to one prediction of the endpoint.

Starts a Prefect server and the endpoint server, and stops both at the end. The state stays in the home folder, so a second
demo ends with "Nothing new".
"""

import hashlib
import json
import os
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from car_damage.adapters.folder import Folder, utf8
from car_damage.commands import status
from car_damage.commands.terminal import plain
from car_damage.data.labels import Labeller
from car_damage.data.splits import TEST
from car_damage.errors import Terminal
from car_damage.machine import absolute, write_whole
from car_damage.platform import Target
from car_damage.ports import Platform, Prediction
from car_damage.server.address import is_local
from car_damage.settings import CONFIG_FILE, CONFIG_VARIABLE, HOME, Labels, Settings
from car_damage.settings_sources import load
from deployments.processes import free_port, port_is_free
from deployments.stack import ENDPOINT_START, endpoint_server, prefect_server
from deployments.variables import assignments, given

LOCAL_SETTINGS = Path(__file__).parent / "settings" / "local.toml"
UNSEEN_SEED = 20_261
"""Seed of the photo that the demo classifies; no photo in the demo's folder has it."""
SHOWN = "major"
"""Class of that photo."""
PLACES = (CONFIG_VARIABLE, "CAR_DAMAGE_HOME", "CAR_DAMAGE_LANDING__FOLDER")
"""The variables by which commands in another terminal find what the demo made."""
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
    by_environment = bool(variables.keys() & set(PLACES))
    found_by_file = not by_environment and may_write()
    os.environ.setdefault(CONFIG_VARIABLE, str(LOCAL_SETTINGS))
    settings = demo_settings(images, by_environment or found_by_file)
    if found_by_file:
        write_whole(Path(CONFIG_FILE), settings_file(_from_here(settings.home), _from_here(Path(settings.landing.folder))))
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
        _next(console, variables)
    console.print(f"{ending}  ({time.monotonic() - started:.0f} s in total)", style="bold", soft_wrap=True)


def may_write() -> bool:
    """Whether there is no settings file in the current folder, or one that an earlier demo wrote and nobody changed."""
    try:
        text = Path(CONFIG_FILE).read_text()
        document = tomllib.loads(text)
        return text == settings_file(document["home"], document["landing"]["folder"])
    except FileNotFoundError:
        return True
    except (ValueError, KeyError, TypeError):
        return False


def _from_here(path: Path) -> str:
    """A path in the current folder relative to it, so that the folder may be moved."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def settings_file(home: str, folder: str) -> str:
    """The local target's settings with these folders, as TOML: commands in the current folder find the demo's tables and models by it."""
    text = LOCAL_SETTINGS.read_text()
    for key, default, value in (("home", HOME, home), ("folder", f"{HOME}/landing", folder)):
        text = text.replace(f'{key} = "{default}"', f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return text


def demo_settings(images: Path | None, own_home: bool) -> Settings:
    """The settings of the demo. Each folder of photos has a home folder, so that two folders never mix in one table.

    Args:
        images: a folder of labelled photos. None: the demo draws some in the home folder, and never in the folder of somebody's photos.
        own_home: whether the home of the settings is the demo's. Otherwise it may be in use by somebody, and the demo takes a folder in it.
    """
    base = load()
    home = base.home if own_home else base.home / "demo"
    if images is None:
        os.environ["CAR_DAMAGE_LANDING__FOLDER"] = str(home / "landing")
    else:
        folder = Path(absolute(str(images)))
        if not folder.is_dir():
            raise Terminal(
                f"IMAGES={images} is not a folder; name one with a subfolder of photos for each class, such as minor/, moderate/, major/"
            )
        _refuse_without_classes(folder, base.labels)
        home /= f"images-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
        os.environ["CAR_DAMAGE_LANDING__FOLDER"] = str(folder)
    os.environ["CAR_DAMAGE_HOME"] = str(home)
    port = urlsplit(base.serving.host or "").port
    if not is_local(base.serving.host) or port is None or not port_is_free(port):
        os.environ["CAR_DAMAGE_SERVING__HOST"] = f"http://127.0.0.1:{free_port()}"
    return load()


def _refuse_without_classes(folder: Path, labels: Labels) -> None:
    """Raise Terminal if no file has a class by its folder or its name, because the run could only fail with too few photos."""
    if labels.source == "table":
        return
    here, above = (Labeller(labels, utf8(str(landing))) for landing in (folder, folder.parent))
    empty = True
    for file in Folder().list(str(folder)):
        if here.label(file.path).label:
            return
        empty = False
    classes = ", ".join(labels.classes)
    if empty:
        raise Terminal(f"there are no files below {folder}; name a folder with a subfolder of photos for each class ({classes})")
    if labels.source == "file_name":
        raise Terminal(f"no file below {folder} has a class in its name ({classes}), which labels.source requires")
    advice = "sort the photos into such folders, or map your folder names to classes in labels.aliases"
    if above.label(f"{folder}/photo").label:
        advice = f"use the parent folder: IMAGES={folder.parent}"
    raise Terminal(f"no file below {folder} is in a folder named after a class ({classes}): {advice}")


def _prepare(platform: Platform) -> None:
    """Do what takes seconds and needs no server: imports, and creating the tables of MLflow's store."""
    import flows.retrain  # noqa: F401 - Prefect first, because its logging set-up closes handlers that are already open
    from car_damage.model import networks

    platform.registry.champion()
    networks.import_quietly()


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
    if now.endpoint:
        state = "READY" if now.endpoint.ready else "NOT READY"
        table.add_row("Endpoint", f"{settings.serving.endpoint}: {state}, serves version {now.endpoint.served}")
    else:
        table.add_row("Endpoint", now.endpoint_problem)
    if example:
        table.add_row("Photo", f"{example.photo} (true class {example.label}; not trained on)")
        table.add_row("Probabilities", ", ".join(f"{name} {value:.2f}" for name, value in example.answer.probabilities.items()))
    console.print(table)
    console.print(f"Predicted class: {example.answer.label}" if example else "No version is live, so no photo was classified", style="bold")
    console.print(f"Everything is in {settings.home}: tables/, mlflow.db, artifacts/, endpoint/, logs/", soft_wrap=True)


def _next(console: Console, variables: Mapping[str, str]) -> None:
    if variables:
        console.print(f"For the next commands: export {assignments(variables)}", soft_wrap=True)
    next_commands = "Next: .venv/bin/car-damage serve &   then   .venv/bin/car-damage predict PHOTO   and   .venv/bin/car-damage status"
    console.print(next_commands, soft_wrap=True)
