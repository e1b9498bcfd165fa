"""What `make up` has started, written down in the home folder, so that `make down` can end what a kill left."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deployments.processes import descendants
from tasks.run_processes import end

SAME_START = 1.0
"""Seconds within which two start times are of the same process; a pid is given again much later."""


@dataclass(frozen=True)
class Started:
    """One process."""

    name: str
    pid: int
    created: float
    """Seconds since 1970."""

    def process(self) -> psutil.Process | None:
        """The process, if it still lives and the pid has not been given to another."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.created) < SAME_START and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None


def this(name: str, pid: int | None = None) -> Started:
    """A process that lives, to be written down; by default this one."""
    process = psutil.Process(pid or os.getpid())
    return Started(name, process.pid, process.create_time())


def write(home: Path, started: Sequence[Started]) -> None:
    """Write down what has been started so far."""
    path = _path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps([asdict(one) for one in started], indent=1))
    part.replace(path)


def read(home: Path) -> list[Started]:
    """What was written down; nothing where there is no such file."""
    try:
        return [Started(**one) for one in json.loads(_path(home).read_text())]
    except FileNotFoundError:
        return []


def forget(home: Path) -> None:
    """All of it has ended."""
    _path(home).unlink(missing_ok=True)


def end_all(started: Sequence[Started]) -> list[str]:
    """End each process that still lives, with all that it has started; returns their names."""
    living = [(one.name, process) for one in started if (process := one.process()) is not None]
    families = [process for _, living_one in living for process in (living_one, *descendants(living_one.pid))]
    for process in families:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(families, timeout=10)
    end(families)
    return [name for name, _ in living]


def _path(home: Path) -> Path:
    return home / "run" / "up.json"
