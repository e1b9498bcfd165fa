"""`make bench-soak`: busy hours of the service compressed into minutes, to see whether anything leaks or gets lost.

A round has what a busy hour has: photos land, people review, a network is trained and judged, versions are swapped, the endpoint is asked,
monitor looks at the requests, and in every third round a photo is forgotten. Meanwhile a client never stops asking. A Prefect server and
the endpoint server are processes of their own, and all flows run in this process, one after another: so what a run leaves behind adds up,
which it cannot where each run has its own process. After the last round the tables are compared with what people did, row by row.
The figures are in docs/scale.md.
"""

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from benchmarks.endpoint import TIMEOUT
from benchmarks.soak_checks import LEFT, Account, Course, forgotten, landed, requests, swaps, usage, words
from benchmarks.soak_page import Soak, lines_of, write
from benchmarks.soak_people import People
from car_damage.moves import DONE
from car_damage.platform import Target
from car_damage.server.address import token
from car_damage.settings_sources import load
from car_damage.stage import silent
from car_damage.stages.monitoring.requests import take_up
from deployments.processes import free_port
from deployments.stack import ENDPOINT_START, endpoint_server, prefect_server

MINUTES = 10.0
LEAST_ROUNDS = 6
FORGETS = 3
"""In every so manieth round a photo is forgotten."""
SERVER, PREFECT, THIS, ALL = "endpoint server and its models", "Prefect server", "process of the flows", "all"
# Hours become seconds, and few photos are enough for a decision.
_SETTINGS = {
    "TRAINING__EPOCHS": "12",
    "PROMOTION__MIN_TEST_PHOTOS": "5",
    "PROMOTION__MIN_TEST_PHOTOS_PER_CLASS": "1",
    "PROMOTION__MIN_CONFIDENCE": "0.5",
    "PROMOTION__MIN_GAIN": "0",
    "PROMOTION__MAX_COST_RISE": "100",
    "PROMOTION__FIRST_VERSION": "any",
    "PROMOTION__RECALL_FLOOR": "{}",
    "SERVING__POLL": "0.2",
    "TABLES__KEEP_DAYS": "0",
    "MONITORING__LOG_SECONDS": "1",
    "MONITORING__HOURS": "0.005",
    "MONITORING__WAIT": "3",
}
_RATE, _EPOCHS = "CAR_DAMAGE_TRAINING__LEARNING_RATE", "CAR_DAMAGE_TRAINING__EPOCHS"


def run(minutes: float = MINUTES) -> Soak:
    begun = time.monotonic()
    with _home() as home, prefect_server(home) as prefect:
        with endpoint_server(load()) as endpoint:
            prefect.await_ready()
            endpoint.await_ready(ENDPOINT_START)
            os.environ.update(prefect.variables | {"PREFECT_LOGGING_LEVEL": "ERROR"})
            settings = load()
            headers = {"Authorization": f"Bearer {token(settings.home)}"}
            with httpx.Client(base_url=settings.serving.host or "", headers=headers, timeout=TIMEOUT) as client:
                people = People(settings, client)
                servers = {SERVER: endpoint.process.pid, PREFECT: prefect.service.process.pid}
                courses = _rounds(people, servers, begun + 60 * minutes)
        target = Target(load())
        take_up(target, silent)
        rounds = len(courses[0].values)
        live = [move.intention.version for move in target.history.moves(DONE)]
        accounts = [*_accounts(people, target), swaps(live, rounds)]
        return Soak(rounds, time.monotonic() - begun, _done(people, target), courses, accounts)


@contextmanager
def _home() -> Iterator[Path]:
    """A home folder with a temporary folder of its own, by the environment of this process and of those that it starts."""
    with tempfile.TemporaryDirectory(prefix="car-damage-soak-") as folder:
        home = Path(folder)
        (home / "tmp").mkdir()
        (home / "settings.toml").touch()
        places = {
            "CONFIG": f"{home}/settings.toml",
            "HOME": folder,
            "LANDING__FOLDER": f"{home}/landing",
            "ANSWERS__KEEP_FOR_REVIEW": f"{home}/kept",
            "SERVING__HOST": f"http://127.0.0.1:{free_port()}",
        }
        os.environ.update({f"CAR_DAMAGE_{name}": value for name, value in (places | _SETTINGS).items()})
        os.environ["TMPDIR"] = tempfile.tempdir = str(home / "tmp")
        yield home


def _rounds(people: People, servers: dict[str, int], until: float) -> list[Course]:
    """What the processes had after each round. Two versions go live before the first one, and from then on the client asks."""
    import flows.retrain as flow
    from deployments.bootstrap import limits
    from deployments.items import bootstrap

    bootstrap(limits())
    people.move_in()
    with _learning("1e-7", "1"):
        _run(flow.retrain)
    with _learning("1e-3", "25"):
        if _run(flow.retrain).name != "Promoted":
            raise SystemExit("the second version did not go live, although the first one has learned nothing: no round could swap versions")
    samples: list[dict[tuple[str, str], float]] = []
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(people.ask_on_and_on, stop)
        try:
            while (time.monotonic() < until or len(samples) < LEAST_ROUNDS) and not asking.done():
                _round(len(samples), people)
                samples.append(_sample(servers))
                print(f"round {len(samples)}: {samples[-1]}", flush=True)
        finally:
            stop.set()
        asking.result()
    return [Course(*what, [sample[what] for sample in samples]) for what in samples[0]]


@contextmanager
def _learning(rate: str, epochs: str) -> Iterator[None]:
    """Train at this rate, and for so many epochs."""
    epochs_after = os.environ[_EPOCHS]
    os.environ.update({_RATE: rate, _EPOCHS: epochs})
    yield
    del os.environ[_RATE]
    os.environ[_EPOCHS] = epochs_after


def _round(number: int, people: People) -> None:
    from flows.forget import forget
    from flows.monitor import monitor
    from flows.retrain import retrain

    people.land()
    people.review()
    if _run(retrain).name != "Promoted":
        _swap()
    people.ask()
    _run(monitor)
    if number % FORGETS == FORGETS - 1:
        _run(forget, people.wants_forgotten())


def _run(flow: Any, *given: Any, **named: Any) -> Any:
    """Run a flow to its end. Returns its final state."""
    state = flow(*given, **named, return_state=True)
    if not state.is_completed():
        raise SystemExit(f"{flow.name} ended {state.name}: {state.message}")
    return state


def _swap() -> None:
    """Take the latest other version live that was live before, as a person does. There is one from the start."""
    from flows.promote import promote

    target = Target(load())
    live = target.registry.champion()
    others = {move.intention.version for move in target.history.moves(DONE)} - {live and live.version}
    _run(promote, "to have another one live", version=max(others))


def _sample(servers: dict[str, int]) -> dict[tuple[str, str], float]:
    gc.collect()
    left = sum(1 for _ in Path(tempfile.gettempdir()).iterdir())
    found = {name: usage(pid) for name, pid in servers.items()}
    found |= {THIS: usage(os.getpid(), alone=True), ALL: {LEFT: left}}  # the servers are its children
    return {(process, what): value for process, values in found.items() for what, value in values.items()}


def _rows(target: Target, name: str, *columns: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = target.tables.read(name, columns, optional=columns)[0].to_pylist()
    return rows


def _accounts(people: People, target: Target) -> list[Account]:
    names, gone = target.settings.tables, people.forgotten
    asked = {sha256: number for sha256, number in people.asked.items() if sha256 not in gone}
    logged = [row["sha256"] for row in _rows(target, names.inference_log, "sha256")]
    everywhere = {name: [row["sha256"] for row in _rows(target, name, "sha256")] for name in names.all}
    return [
        requests(asked, {photo.sha256 for photo in people.stream}, logged),
        landed([path for path, sha256 in people.landed.items() if sha256 not in gone], _rows(target, names.bronze, "path", "status")),
        words([word for word in people.said if word[0] not in gone], _rows(target, names.reviews, "sha256", "label", "by")),
        forgotten(gone, everywhere),
    ]


def _done(people: People, target: Target) -> dict[str, int]:
    """What was done -> how often."""
    return {
        "files landed": len(people.landed),
        "trainings": len(target.tracking.recent()),
        "versions that went live": len(target.history.moves(DONE)),
        "answered requests": people.asked.total(),
        "words of people": len(people.said),
        "windows of monitor": len(_rows(target, target.settings.tables.monitoring, "begins")),
        "photos forgotten": len(people.forgotten),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"how long to go on with rounds (default: {MINUTES:g})")
    soak = run(parser.parse_args().minutes)
    lines = list(lines_of(soak))
    print("\n".join(lines))
    write(lines)
    if soak.wrong:
        raise SystemExit("\n".join(soak.wrong))


if __name__ == "__main__":
    main()
