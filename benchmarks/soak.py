"""`make bench-soak`: busy hours of the service compressed into minutes, to see whether anything leaks or gets lost.

A round has what a busy hour has: photos land, people review, a network is trained and judged, versions are swapped, the endpoint is asked,
monitor looks at the requests, and in every third round a photo is forgotten. Meanwhile a client never stops asking. The service is that of
`make up`, with `make watch` beside it: photos that land start a run, and the worker starts a process for each run. What is measured are the
processes that live on. After the last round the tables are compared with what people did, row by row. The figures are in docs/scale.md.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from benchmarks.endpoint import TIMEOUT
from benchmarks.soak_checks import LEFT, Account, Course, forgotten, landed, requests, swaps, usage, words
from benchmarks.soak_page import TEMPORARY, Soak, lines_of, write
from benchmarks.soak_people import People
from benchmarks.soak_service import Runs, left, running
from car_damage.moves import DONE
from car_damage.platform import Target
from car_damage.server.address import token
from car_damage.settings_sources import load
from car_damage.stage import silent
from car_damage.stages.monitoring.requests import take_up
from deployments.pid_file import MAKE_UP
from deployments.processes import free_port
from deployments.stack import WORKER

MINUTES = 15.0
LEAST_ROUNDS = 6
FORGETS = 3
"""In every so manieth round a photo is forgotten."""
ALONE = {MAKE_UP, WORKER}
"""Processes whose children are counted but not measured: those of `make up` are measured themselves, and those of the worker end."""
# Hours become seconds, and few photos are enough for a decision.
_SETTINGS = {
    "PROMOTION__MIN_TEST_PHOTOS": "5",
    "PROMOTION__MIN_TEST_PHOTOS_PER_CLASS": "1",
    "PROMOTION__MIN_CONFIDENCE": "0.5",
    "PROMOTION__MIN_GAIN": "0",
    "PROMOTION__MAX_COST_RISE": "100",
    "PROMOTION__FIRST_VERSION": "any",
    "PROMOTION__RECALL_FLOOR": "{}",
    "SERVING__POLL": "0.2",
    "TABLES__KEEP_DAYS": "0",
    "DOORBELL__QUIET": "1",
    "DOORBELL__REPEAT_AFTER": "60",
    "MONITORING__LOG_SECONDS": "1",
    "MONITORING__HOURS": "0.005",
    "MONITORING__WAIT": "3",
    "MONITORING__CRON": "0 0 1 1 *",  # the rounds start it
}


def run(minutes: float = MINUTES) -> Soak:
    begun = time.monotonic()
    with _home():
        with running(load()) as processes:
            from prefect.client.orchestration import get_client

            settings = load()
            headers = {"Authorization": f"Bearer {token(settings.home)}"}
            with (
                httpx.Client(base_url=settings.serving.host or "", headers=headers, timeout=TIMEOUT) as client,
                get_client(sync_client=True) as prefect,
            ):
                people, runs = People(settings, client), Runs(prefect)
                courses = _rounds(people, runs, processes, begun + 60 * minutes)
                of_runs = runs.account()
        target = Target(load())
        take_up(target, silent)
        rounds = len(courses[0].values)
        live = [move.intention.version for move in target.history.moves(DONE)]
        accounts = [*_accounts(people, target), swaps(live, rounds), of_runs]
        return Soak(rounds, time.monotonic() - begun, _done(people, target), courses, accounts)


@contextmanager
def _home() -> Iterator[None]:
    """A home folder with a temporary folder of its own, by the environment of this process and of those that it starts."""
    with tempfile.TemporaryDirectory(prefix="car-damage-soak-") as folder:
        home = Path(folder)
        (home / "tmp").mkdir()
        places = {
            "CONFIG": f"{home}/settings.toml",
            "HOME": folder,
            "LANDING__FOLDER": f"{home}/landing",
            "ANSWERS__KEEP_FOR_REVIEW": f"{home}/kept",
            "SERVING__HOST": f"http://127.0.0.1:{free_port()}",
            "STACK__PREFECT_PORT": str(free_port()),
            "STACK__MLFLOW_PORT": str(free_port()),
        }
        os.environ.update({f"CAR_DAMAGE_{name}": value for name, value in (places | _SETTINGS).items()})
        os.environ["TMPDIR"] = tempfile.tempdir = str(home / "tmp")
        _learn(1e-7, epochs=1)
        yield


def _learn(rate: float, epochs: int) -> None:
    """Let the next trainings learn at this rate, and for so many epochs: each run reads the settings file."""
    Path(os.environ["CAR_DAMAGE_CONFIG"]).write_text(f"[training]\nlearning_rate = {rate}\nepochs = {epochs}\n")


def _rounds(people: People, runs: Runs, processes: Mapping[str, int], until: float) -> list[Course]:
    """What the processes had after each round. Two versions go live before the first one, and from then on the client asks."""
    people.move_in()
    runs.await_doorbell(datetime.now(UTC))
    first = _live()
    _learn(1e-3, epochs=25)
    runs.complete("retrain")
    if _live() == first:
        raise SystemExit("the second version did not go live, although the first one has learned nothing: no round could swap versions")
    _learn(1e-3, epochs=12)
    samples: list[dict[tuple[str, str], float]] = []
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(people.ask_on_and_on, stop)
        try:
            while (time.monotonic() < until or len(samples) < LEAST_ROUNDS) and not asking.done():
                _round(len(samples), people, runs)
                samples.append(_sample(processes))
                print(f"round {len(samples)}: {samples[-1]}", flush=True)
        finally:
            stop.set()
        asking.result()
    return [Course(*what, [sample[what] for sample in samples]) for what in samples[0]]


def _round(number: int, people: People, runs: Runs) -> None:
    before = _live()
    people.land()
    people.review()
    runs.await_doorbell(datetime.now(UTC))
    if _live() == before:
        runs.complete("promote", reason="to have another one live", version=_another())
    people.ask()
    runs.complete("monitor")
    if number % FORGETS == FORGETS - 1:
        runs.complete("forget", photo=people.wants_forgotten())


def _live() -> int | None:
    """The live version."""
    champion = Target(load()).registry.champion()
    return champion and champion.version


def _another() -> int:
    """The latest version that was live before and is not. There is one from the start."""
    return max({move.intention.version for move in Target(load()).history.moves(DONE)} - {_live()})


def _sample(processes: Mapping[str, int]) -> dict[tuple[str, str], float]:
    left()
    files = sum(1 for _ in Path(tempfile.gettempdir()).rglob("*"))
    found = {name: usage(pid, alone=name in ALONE) for name, pid in processes.items()} | {TEMPORARY: {LEFT: files}}
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
