"""The PID file in the home folder: processes that `make up` has started, so that `make down` can stop those that a kill left."""

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
"""Start times that differ by less than these seconds belong to the same process; the system reuses a PID much later."""


@dataclass(frozen=True)
class ProcessRecord:
    """One process in the file."""

    name: str
    pid: int
    created: float
    """Start time, in seconds since 1970."""

    def process(self) -> psutil.Process | None:
        """The process, if it is still running and its PID does not belong to another process."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.created) < SAME_START and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None


def record(name: str, pid: int | None = None) -> ProcessRecord:
    """The record of a running process; by default of this one."""
    process = psutil.Process(pid or os.getpid())
    return ProcessRecord(name, process.pid, process.create_time())


def write(home: Path, records: Sequence[ProcessRecord]) -> None:
    """Replace the file."""
    path = _path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps([asdict(one) for one in records], indent=1))
    part.replace(path)


def read(home: Path) -> list[ProcessRecord]:
    """The records in the file; none if there is no file."""
    try:
        return [ProcessRecord(**one) for one in json.loads(_path(home).read_text())]
    except FileNotFoundError:
        return []


def delete(home: Path) -> None:
    """Delete the file."""
    _path(home).unlink(missing_ok=True)


def end_all(records: Sequence[ProcessRecord]) -> list[str]:
    """End each process that is still running, with its descendants; return the names."""
    running = [(one.name, process) for one in records if (process := one.process()) is not None]
    families = [process for _, parent in running for process in (parent, *descendants(parent.pid))]
    for process in families:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(families, timeout=10)
    end(families)
    return [name for name, _ in running]


def _path(home: Path) -> Path:
    return home / "run" / "up.json"
