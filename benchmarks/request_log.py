"""What the request log costs: three endpoints of one model, of which one notes requests. They take turns.

The ratio is that to the first endpoint, which notes none. The third one is the first once more: its ratio shows how much of a difference is
due to chance. Of the median it is the median of the ratios of answers that follow each other, and processor time hardly depends on other
load. Many clients get turns that are longer than the log collects requests.
"""

import statistics
import tempfile
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.endpoint import Endpoint, endpoint, network, photo
from benchmarks.load import Load, load_endpoint
from benchmarks.serving import client, timed

LOGS = {"without the request log": "false", "with the request log": "true", "without it, once more": "false"}
ROUNDS = 1_500
CLIENTS = 16
TURNS = 6
TURN = 6.0
"""Seconds of one turn: the log writes each five."""


def run() -> list[dict[str, Any]]:
    """The median of one client, and rate and processor time with many."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as temporary, ExitStack() as stack:
        home, data = Path(temporary), photo()
        files = network(home)
        served = [
            stack.enter_context(endpoint(home / str(number), files, data, CAR_DAMAGE_MONITORING__LOG_REQUESTS=logs))
            for number, logs in enumerate(LOGS.values())
        ]
        return [*_one_client(served), *_many_clients(served, home)]


def _one_client(served: list[Endpoint]) -> list[dict[str, Any]]:
    calls = [client(one.port, one.path, [one.body], one.headers) for one in served]
    for call in calls * 20:
        call()
    rounds = [[timed(calls[which]) * 1000 for which in order] for order in _orders(len(calls), ROUNDS)]
    times = [[round_[order.index(which)] for round_, order in zip(rounds, _orders(len(calls), ROUNDS), strict=True)] for which in range(3)]
    ratios = [statistics.median(one / base for one, base in zip(some, times[0], strict=True)) for some in times]
    medians = [statistics.median(some) for some in times]
    return _rows("latency of 1 client, p50", "ms", medians, ratios)


def _many_clients(served: list[Endpoint], home: Path) -> list[dict[str, Any]]:
    loads = [Load() for _ in served]
    for turn, order in enumerate(_orders(len(served), TURNS + 1)):
        for which in order:
            request = home / f"request {which}"
            served[which].write_request(request)
            load_endpoint(served[which], request, loads[which] if turn else Load(), CLIENTS, TURN)
    rates, of_server, of_all = (
        [one.rate for one in loads],
        [one.processor_time("server") for one in loads],
        [one.processor_time() for one in loads],
    )
    return [
        *_rows(f"photos a second, {CLIENTS} clients", "1/s", rates),
        *_rows(f"processor time of the server, {CLIENTS} clients", "ms", of_server),
        *_rows(f"processor time of server, model and clients, {CLIENTS} clients", "ms", of_all),
    ]


def _orders(number: int, rounds: int) -> list[list[int]]:
    """Who takes turns when: each begins as often as the others."""
    return [list(islice(cycle(range(number)), start % number, start % number + number)) for start in range(rounds)]


def _rows(name: str, unit: str, values: list[float], ratios: list[float] | None = None) -> list[dict[str, Any]]:
    base, names = values[0], list(LOGS)
    given = ratios or [value / base for value in values]
    return [
        {
            "name": f"{name}, {names[which]}",
            "value": values[which],
            "unit": unit,
            "baseline": f"{names[0]}: {base:.2f} {unit}",
            "ratio": given[which],
        }
        for which in (1, 2)
    ]
