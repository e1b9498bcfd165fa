"""`make bench-scale`: what ingesting 1,000, 10,000 and 100,000 small photos takes, by delta-rs and by Spark.

For each number and engine: the first ingest, again with nothing new, and again with 1 % new. Each engine runs in a process of
its own, which first takes in a few other photos: the row "warm-up" is what a process that has just begun costs. Time, peak
memory of the process and all that it started, bytes that they read, and Spark's tasks. Results go to build/bench-scale.json
and, as a page, to docs/scale.md.

The baseline of Spark is what `binaryFile` does untuned: the same work on the content column, one task a file.
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
"""Seconds that the ingests of one engine and size may take."""


@dataclass(frozen=True)
class Figure:
    """One ingest, or the baseline's one reading."""

    photos: int
    engine: str
    step: str
    """warm-up | first | nothing new | 1 % new"""
    worked_on: int
    """Files that this step had to read."""
    validate: float
    """Seconds of the stage validate."""
    silver: float
    """Seconds of the stage silver: the planner over metadata, and two commits."""
    python: int
    """Peak bytes in memory of the driver's Python process."""
    others: int
    """Peak bytes in memory of all that it started: Java, and Spark's Python workers."""
    read: int
    """Bytes that went through read calls of any of them."""
    tasks: int | None
    """Spark's."""

    @property
    def seconds(self) -> float:
        return self.validate + self.silver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="numbers of photos")
    parser.add_argument("--engines", nargs="*", default=ENGINES, choices=ENGINES)
    asked = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="car-damage-scale-") as root:
        for photos in asked.sizes:
            for engine in asked.engines:
                folder = Path(root) / f"{photos}-{engine}"
                draw(folder / "landing", photos)
                figures += run(folder, photos, engine)
                shutil.rmtree(folder)
        if "spark" in asked.engines:
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
    """All steps of one engine, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale_steps", str(folder), str(photos), engine]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = threading.Timer(LIMIT, process.kill)
    deadline.start()
    figures = []
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while ready := _told(process.stdout):
            before = _bytes_read(process.pid)
            with _Memory(process.pid) as memory:
                print("go", file=process.stdin, flush=True)
                done = _told(process.stdout)
            if not done:
                raise SystemExit(f"{engine} with {photos:,} photos ended in the step {ready['step']}, or took more than {LIMIT:.0f} s")
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
        raise SystemExit(f"{engine} with {photos:,} photos ended with {code}")
    return figures


def _told(stream: IO[str]) -> dict[str, Any]:
    """The next line of JSON; nothing at the end. Other lines are somebody else's."""
    for line in stream:
        if line.startswith("{"):
            told: dict[str, Any] = json.loads(line)
            return told
    return {}


class _Memory:
    """Looks at the memory of a process and its children ten times a second."""

    def __init__(self, pid: int) -> None:
        self._process, self._end = psutil.Process(pid), threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.own = self.others = 0

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            others = 0
            for child in self._process.children(recursive=True):
                try:
                    others += child.memory_full_info().pss  # shared by forked workers: counted once
                except psutil.Error:
                    continue
            self.own, self.others = max(self.own, self._process.memory_info().rss), max(self.others, others)
            if self._end.wait(0.1):
                return


def _bytes_read(pid: int) -> int:
    """By the process, its children, and those of their children that have ended and been waited for."""
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
    """Put the figures into the page, between its two marks."""
    on = f"{machine['processors']} processors, {machine['memory'] / 1e9:.0f} GB of memory, {machine['system']}, Python {machine['python']}"
    rows = ["| " + " | ".join(cells) + " |" for cells in (HEADER, ["---"] * 3 + ["---:"] * 7, *map(_cells, figures))]
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    PAGE.write_text("\n".join([before + _BEGIN, "", f"Measured on {on}.", "", *rows, "", _END + after]))


if __name__ == "__main__":
    main()
