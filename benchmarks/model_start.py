"""What a model's process costs: the time until it answers, its memory, and the packages that its container installs.

The baseline is the same network as a model that answers by Keras. Both are packaged as the train stage packages them, and take turns.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.endpoint import CLASSES, network, photo
from car_damage.model.served import package
from car_damage.model.served.environment import build, scrubbed
from car_damage.model.served.process import HOST

ROUNDS = 5
INSTALLING = 1800.0
"""Seconds that an environment may take to install."""


@dataclass(frozen=True)
class Start:
    """One start of a model's process."""

    wall: float
    """Seconds until it had answered its example twice and was ready."""
    cpu: float
    """Seconds of processor time until then."""
    memory: float
    """MB of resident memory after that."""


def run() -> list[dict[str, Any]]:
    """Medians of the starts, and the sizes of the environments."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as temporary:
        folder = Path(temporary)
        files, example = network(folder), photo()
        models = {"onnx": files, "keras": replace(files, onnx=None)}
        for name, network_files in models.items():
            package.save(folder / name, network_files, example, CLASSES)
        starts: dict[str, list[Start]] = {name: [] for name in models}
        for _ in range(ROUNDS):
            for name in models:
                starts[name].append(_start(folder / name, folder / "socket"))
        # uv is where this environment's programs are.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        rows = [
            _row("a model's process until it is ready", [start.wall for start in starts["onnx"]], [s.wall for s in starts["keras"]], "s"),
            _row("its processor time until then", [start.cpu for start in starts["onnx"]], [s.cpu for s in starts["keras"]], "s"),
            _row("its resident memory", [start.memory for start in starts["onnx"]], [s.memory for s in starts["keras"]], "MB"),
        ]
        (ours, count), (theirs, their_count) = (_environment(folder / name, folder / f"{name}-environment") for name in models)
        return [
            *rows,
            _row("the environment that a model asks for", [ours], [theirs], "MB"),
            _row("its packages", [count], [their_count], ""),
        ]


def _start(model: Path, socket: Path) -> Start:
    import psutil

    socket.unlink(missing_ok=True)
    began = time.monotonic()
    command = [sys.executable, "-P", str(HOST), "serve", str(model), str(socket)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=scrubbed(os.environ)
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise SystemExit(f"the process of {model} did not start")
        wall = time.monotonic() - began
        started = psutil.Process(process.pid)
        used, memory = started.cpu_times(), started.memory_info().rss
        process.kill()
    return Start(wall, used.user + used.system, memory / 1e6)


def _environment(model: Path, into: Path) -> tuple[float, float]:
    """MB and packages of the model's own environment."""
    build(model, into, INSTALLING)
    site = next(into.glob("lib/python*/site-packages"))
    size = sum(file.stat().st_size for file in site.rglob("*") if file.is_file() and not file.is_symlink())
    packages = len(list(site.glob("*.dist-info")))
    shutil.rmtree(into)
    return size / 1e6, float(packages)


def _row(name: str, ours: list[float], baseline: list[float], unit: str) -> dict[str, Any]:
    value, base = statistics.median(ours), statistics.median(baseline)
    return {"name": name, "value": value, "unit": unit, "baseline": f"the same network by Keras: {base:.3g} {unit}", "ratio": value / base}
