"""Load on the local endpoint: photos a second and latency with many clients, also while version 2 replaces version 1.

The baseline runs this project's decoder and one call of ONNX Runtime for each photo, in as many threads of one process as there are
clients. Endpoint and baseline take turns on the same cores, so that other load on the machine affects both. The
clients (see client.py) use these cores too. Besides wall time the benchmark gives the processor time of the server, the model's
process and the clients, because that hardly depends on other load.

While version 2 replaces version 1, a second model process starts on the same cores. The
latency of requests during that time is compared with that of requests before and after it, with the same four clients.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.endpoint import BARE, Endpoint, bare, endpoint, network, photo

CLIENTS = (1, 4, 16)
SWAP_CLIENTS = 4
TURNS = 4
TURN = 1.5
"""Seconds of one turn."""
CALM = 5.0
"""Seconds of measurement before a swap, and after it."""


@dataclass
class Load:
    """What the clients, or the threads of the baseline, measured."""

    seen: list[tuple[float, float]] = field(default_factory=list)
    """For each request its start (time.monotonic) and its duration, both in seconds."""
    wall: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    """Process -> seconds of processor time."""

    def add(self, seen: list[tuple[float, float]], wall: float, cpu: dict[str, float]) -> None:
        """Add the measurements of a turn."""
        self.seen += seen
        self.wall += wall
        self.cpu = {name: self.cpu.get(name, 0.0) + seconds for name, seconds in cpu.items()}

    @property
    def rate(self) -> float:
        """Photos a second."""
        return len(self.seen) / self.wall

    def processor_time(self, *names: str) -> float:
        """Milliseconds of processor time a photo, of these processes or of all."""
        return sum(self.cpu[name] for name in names or self.cpu) / len(self.seen) * 1000


def run() -> list[dict[str, Any]]:
    """Rates, latencies and processor times; then latencies during a swap of versions."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as temporary:
        home, data = Path(temporary), photo()
        files = network(home)
        with endpoint(home, files, data) as served:
            work = bare(files, data)
            request = home / "request"
            served.write_request(request)
            load_endpoint(served, request, Load(), 2, 1.0)
            _load_baseline(work, Load(), 2, 1.0)
            return [row for clients in CLIENTS for row in _throughput(served, request, work, clients)] + _swap(served, request)


def _throughput(served: Endpoint, request: Path, work: Callable[[], Any], clients: int) -> Iterator[dict[str, Any]]:
    ours, reference = Load(), Load()
    for _ in range(TURNS):
        load_endpoint(served, request, ours, clients, TURN)
        _load_baseline(work, reference, clients, TURN)
    who, baseline = f"{clients} client{'s' if clients > 1 else ''}", f"{BARE}, {clients} thread{'s' if clients > 1 else ''}"
    yield _row(f"photos a second, {who}", ours.rate, "1/s", f"{baseline}: {reference.rate:.0f}/s", ours.rate / reference.rate)
    for share in (50, 99):
        value, base = _percentile(ours.seen, share), _percentile(reference.seen, share)
        yield _row(f"latency, {who}, p{share}", value, "ms", f"{baseline}: {base:.1f} ms", value / base)
    parts = " + ".join(f"{name} {ours.processor_time(name):.2f}" for name in ours.cpu)
    value, base = ours.processor_time(), reference.processor_time()
    yield _row(f"processor time a photo, {who}: {parts}", value, "ms", f"{baseline}: {base:.2f} ms", value / base)


def _swap(served: Endpoint, request: Path) -> list[dict[str, Any]]:
    seen: list[tuple[float, float]] = []
    with _clients(served, request, SWAP_CLIENTS, seen):
        time.sleep(CALM)
        begin = time.monotonic()
        served.take_live(2)
        end = time.monotonic()
        time.sleep(CALM)
    during = [(start, took) for start, took in seen if start < end and start + took > begin]
    calm = [(start, took) for start, took in seen if not (start < end and start + took > begin)]
    rows = []
    for share in (50, 99):
        value, base = _percentile(during, share), _percentile(calm, share)
        name = f"latency in a swap of versions ({end - begin:.0f} s), {SWAP_CLIENTS} clients, p{share}"
        rows.append(_row(name, value, "ms", f"before and after it: {base:.1f} ms", value / base))
    return rows


def load_endpoint(served: Endpoint, request: Path, load: Load, clients: int, seconds: float) -> None:
    """Let clients send the request for so many seconds, and add what they and the processor's clock measure to the load."""
    import psutil

    server = psutil.Process(served.pid)
    (model,) = server.children(recursive=True)
    before = [sum(process.cpu_times()[:2]) for process in (server, model)]
    seen: list[tuple[float, float]] = []
    with _clients(served, request, clients, seen) as cpu:
        time.sleep(seconds)
    of_server, of_model = (sum(process.cpu_times()[:2]) - at for process, at in zip((server, model), before, strict=True))
    wall = max(start + took for start, took in seen) - min(start for start, _ in seen)
    load.add(seen, wall, {"server": of_server, "model": of_model, "clients": cpu[0]})


@contextmanager
def _clients(served: Endpoint, request: Path, clients: int, seen: list[tuple[float, float]]) -> Iterator[list[float]]:
    """Run clients during the block. After it `seen` has their measurements, and the list their processor time in seconds."""
    cpu: list[float] = []
    order = json.dumps({"port": served.port, "request": str(request), "clients": clients}) + "\n"
    command = [sys.executable, "-S", "-I", str(Path(__file__).with_name("client.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(order)
        process.stdin.flush()
        yield cpu
        results = json.loads(process.communicate(timeout=120)[0])
    if results["refused"]:
        raise SystemExit(f"{len(results['refused'])} requests were not answered with 200: {results['refused'][0]}")
    seen += [(start, took) for start, took in results["seen"]]
    cpu.append(results["cpu"])


def _load_baseline(work: Callable[[], Any], load: Load, threads: int, seconds: float) -> None:
    seen: list[tuple[float, float]] = []
    end = time.monotonic() + seconds

    def repeat() -> None:
        while (start := time.monotonic()) < end:
            work()
            seen.append((start, time.monotonic() - start))

    workers = [threading.Thread(target=repeat) for _ in range(threads)]
    begin, used = time.monotonic(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    load.add(seen, time.monotonic() - begin, {"bare": time.process_time() - used})


def _percentile(seen: list[tuple[float, float]], share: int) -> float:
    """Milliseconds of a request at this percentile."""
    took = sorted(seconds for _, seconds in seen)
    return took[min(len(took) - 1, len(took) * share // 100)] * 1000


def _row(name: str, value: float, unit: str, baseline: str, ratio: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio}


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']}: {row['value']:.1f} {row['unit']}, {row['ratio']:.2f}x of {row['baseline']}")
