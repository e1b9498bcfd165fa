"""`make bench-scale`: ingesting 1,000, 10,000 and 100,000 small photos with delta-rs and with Spark.

For each number and engine it measures a first ingest, one with nothing new, and one with 1 % new photos: time, peak memory of
the process and its descendants, bytes read, and Spark's tasks. Each engine runs in a separate process, which first ingests a
few other photos: the row "warm-up" shows the cost of starting. Results go to build/bench-scale.json and docs/scale.md.

The baseline for Spark is `binaryFile` with default settings: the same work on the content column, one task for each file.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.ingest import draw

RESULTS = Path("build/bench-scale.json")
PAGE = Path("docs/scale.md")
_BEGIN, _END = "<!-- figures: written by make bench-scale -->", "<!-- end of figures -->"
SIZES = (1_000, 10_000, 100_000)
BASELINE_PHOTOS = 1_000
ENGINES = ("delta-rs", "spark")
BASELINE = "binaryFile, one task a file"
LIMIT = 3600.0
"""Seconds that all steps of one engine and size may take."""


@dataclass(frozen=True)
class Figure:
    """The measurements of one step."""

    photos: int
    engine: str
    step: str
    """warm-up | first | nothing new | 1 % new"""
    worked_on: int
    """Files that this step read."""
    validate: float
    """Seconds of the stage validate."""
    silver: float
    """Seconds of the stage silver: the planner over metadata, and two commits."""
    python: int
    """Peak memory of the driver's Python process, in bytes."""
    others: int
    """Peak memory of its descendants (Java, and Spark's Python workers), in bytes."""
    read: int
    """Bytes that all these processes read, counted at their read calls."""
    tasks: int | None
    """Spark's tasks; None for delta-rs."""

    @property
    def seconds(self) -> float:
        return self.validate + self.silver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of photos")
    parser.add_argument("--engines", nargs="*", default=ENGINES, choices=ENGINES)
    options = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="car-damage-scale-") as root:
        for photos in options.sizes:
            for engine in options.engines:
                folder = Path(root) / f"{photos}-{engine}"
                draw(folder / "landing", photos)
                figures += run(folder, photos, engine)
                shutil.rmtree(folder)
        if "spark" in options.engines:
            folder = Path(root) / "baseline"
            draw(folder / "landing", BASELINE_PHOTOS)
            figures += run(folder, BASELINE_PHOTOS, BASELINE)
    machine = {
        "processors": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": machine, "figures": [asdict(figure) for figure in figures]}, indent=1) + "\n")
    _show(figures)
    _write(machine, figures)
    print(f"written to {RESULTS} and {PAGE}")


def run(folder: Path, photos: int, engine: str) -> list[Figure]:
    """Run all steps of one engine in a separate process."""
    command = [sys.executable, "-m", "benchmarks.scale_steps", str(folder), str(photos), engine]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = threading.Timer(LIMIT, process.kill)
    deadline.start()
    figures = []
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while ready := _read_json(process.stdout):
            before = _bytes_read(process.pid)
            with _Memory(process.pid) as memory:
                print("go", file=process.stdin, flush=True)
                done = _read_json(process.stdout)
            if not done:
                raise SystemExit(f"{engine} with {photos:,} photos ended in the step {ready['step']}, or took longer than {LIMIT:.0f} s")
            measured = {"python": memory.own, "others": memory.others, "read": _bytes_read(process.pid) - before}
            figure = Figure(done["worked_on"] if ready["step"] == "warm-up" else photos, engine, ready["step"], **done, **measured)
            figures.append(figure)
            print(f"{figure.photos:,} photos, {engine}, {figure.step}: {figure.seconds:.1f} s", flush=True)
            print("next", file=process.stdin, flush=True)
    finally:
        deadline.cancel()
        process.kill()
        code = process.wait()
    if not figures or code not in (0, -9):
        raise SystemExit(f"{engine} with {photos:,} photos ended with exit code {code}")
    return figures


def _read_json(stream: IO[str]) -> dict[str, Any]:
    """The next line of JSON; empty at the end. Other lines come from Spark, and are skipped."""
    for line in stream:
        if line.startswith("{"):
            message: dict[str, Any] = json.loads(line)
            return message
    return {}


class _Memory:
    """Samples the memory of a process and its descendants ten times a second; keeps the peaks."""

    def __init__(self, pid: int) -> None:
        self._process, self._end = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.own = self.others = 0

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            others = 0
            for child in self._process.children(recursive=True):
                try:
                    others += child.memory_full_info().pss  # PSS counts memory that forked workers share once
                except psutil.Error:
                    continue
            self.own, self.others = max(self.own, self._process.memory_info().rss), max(self.others, others)
            if self._end.wait(0.1):
                return


def _bytes_read(pid: int) -> int:
    """Bytes read so far by the process and its descendants, including ended ones that their parents have waited for."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    total = 0
    for process in processes:
        try:
            total += process.io_counters().read_chars
        except psutil.Error:
            continue
    return total


HEADER = ("photos", "engine", "step", "s", "silver's share", "photos/s", "driver, MB", "Java and workers, MB", "read, MB", "tasks")


def _cells(figure: Figure) -> list[str]:
    rate = f"{figure.worked_on / figure.seconds:,.0f}" if figure.worked_on else ""
    sizes = [f"{size / 1e6:,.0f}" for size in (figure.python, figure.others, figure.read)]
    share = f"{figure.silver / figure.seconds:.0%}"
    tasks = "" if figure.tasks is None else f"{figure.tasks:,}"
    return [f"{figure.photos:,}", figure.engine, figure.step, f"{figure.seconds:.1f}", share, rate, *sizes, tasks]


def _show(figures: list[Figure]) -> None:
    table = Table(*HEADER)
    for figure in figures:
        table.add_row(*_cells(figure))
    Console(width=170).print(table)


def _write(machine: dict[str, Any], figures: list[Figure]) -> None:
    """Write the figures to the page, between its two markers."""
    on = f"{machine['processors']} processors, {machine['memory'] / 1e9:.0f} GB of memory, {machine['system']}, Python {machine['python']}"
    rows = ["| " + " | ".join(cells) + " |" for cells in (HEADER, ["---"] * 3 + ["---:"] * 7, *map(_cells, figures))]
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text("\n".join([before + _BEGIN, "", f"Measured on {on}.", "", *rows, "", _END + after]))


if __name__ == "__main__":
    main()
