"""Photos a second that a model answers in bulk: with delta-rs in one process of the model, and on one and two of Spark's Python workers.

Each engine runs in a process of its own, and they take turns, so that other load on the machine affects all of them. Each first asks
about all photos once, which starts Spark's workers and the model's processes. Needs Spark: `make spark`.
"""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.endpoint import CLASSES, network, photo

PHOTOS = 512
ROUNDS = 4
ENGINES = ("delta-rs", "local[1]", "local[2]")
LIMIT = 600.0
"""Seconds that an engine may take to start, and for each round."""


def run() -> list[dict[str, Any]]:
    """The best of all rounds. The ratio compares speeds, so more is better."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        _prepare(folder)
        engines = {engine: stack.enter_context(_Engine(folder, engine)) for engine in ENGINES}
        rounds = [{engine: process.seconds() for engine, process in engines.items()} for _ in range(ROUNDS + 1)][1:]
    speeds = {engine: PHOTOS / min(seconds[engine] for seconds in rounds) for engine in ENGINES}
    against = (("local[2]", "local[1]"), ("local[2]", "delta-rs"))
    return [
        {
            "name": f"score, {PHOTOS} JPEGs of 1000x667, Spark on {ours}",
            "value": speeds[ours],
            "unit": "photos/s",
            "baseline": f"{baseline}, {speeds[baseline]:.0f}/s",
            "ratio": speeds[ours] / speeds[baseline],
        }
        for ours, baseline in against
    ]


def _prepare(folder: Path) -> None:
    from car_damage.model.served import package

    data = photo()
    (folder / "photos").mkdir()
    for number in range(PHOTOS):
        (folder / "photos" / f"{number:05}.jpg").write_bytes(data)
    package.save(folder / "model", network(folder), data, CLASSES)


class _Engine:
    """The process of one engine."""

    def __init__(self, folder: Path, engine: str) -> None:
        command = [sys.executable, "-m", "benchmarks.scoring", str(folder), engine]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "_Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # its stdin ends, and so does it

    def seconds(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("go", file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):  # other lines come from Spark
                return float(json.loads(line)["seconds"])
        raise SystemExit("an engine has ended")


def _child(folder: Path, engine: str) -> None:
    import pyarrow as pa

    from car_damage.platform import Target
    from car_damage.settings import Settings

    settings = Settings.model_validate(
        {
            "home": folder / engine.strip("]").replace("[", "-"),
            "landing": {"folder": str(folder / "photos")},
            "tables": {"engine": "delta-rs" if engine == "delta-rs" else "spark"},
            "spark": {"conf": {"spark.log.level": "ERROR"}} | ({} if engine == "delta-rs" else {"master": engine}),
        }
    )
    tables = Target(settings).tables
    photos = sorted((folder / "photos").iterdir())
    files = pa.table({"path": [str(path) for path in photos], "size": [path.stat().st_size for path in photos]})
    for _ in sys.stdin:
        begun = time.perf_counter()
        given = pa.concat_tables(tables.answers(files, folder / "model", LIMIT, "this", 5000))
        seconds = time.perf_counter() - begun
        assert given["label"].null_count == 0
        assert given.num_rows == PHOTOS
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    _child(Path(sys.argv[1]), sys.argv[2])
