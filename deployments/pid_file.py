"""The PID file in the home folder: processes that `make up` has started, so that `make down` can stop those that a kill left."""

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from car_damage.errors import Terminal
from car_damage.machine import write_whole
from deployments.processes import descendants
from tasks.local_server import SERVICE_LOG
from tasks.run_processes import end

MAKE_UP = "make up"
"""The name in the file of the process that starts the others."""
FORMAT = 1
"""Of the file. Raise it when an earlier version could not read what this one writes."""
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

    def running(self, home: Path) -> list[psutil.Process]:
        """The process with its descendants, and the rest of its group: when a service is killed, a child of it may keep the port."""
        leader = self.process()
        family = [leader, *descendants(self.pid)] if leader is not None else []
        return list(dict.fromkeys([*family, *_group(self.pid, home)]))


def record(name: str, pid: int | None = None) -> ProcessRecord:
    """The record of a running process; by default of this one."""
    process = psutil.Process(pid or os.getpid())
    return ProcessRecord(name, process.pid, process.create_time())


def write(home: Path, records: Sequence[ProcessRecord]) -> None:
    """Replace the file."""
    path = _path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"format": FORMAT, "home": str(home), "processes": [asdict(one) for one in records]}, indent=1))


def read(home: Path) -> list[ProcessRecord]:
    """The records in the file; none if there is no file, or if this home is a copy of the one whose processes they are. Earlier versions
    wrote the list alone.

    Raises:
        Terminal: the file is damaged, or of a later version.
    """
    path = _path(home)
    try:
        document = json.loads(path.read_text())
        if isinstance(document, dict) and document["format"] != FORMAT:
            raise Terminal(f"{path} has the format {document['format']}, and this version reads {FORMAT}: use the version that wrote it")
        if isinstance(document, dict) and _is_another(Path(document.get("home", home)), home):
            return []
        return [ProcessRecord(**one) for one in (document["processes"] if isinstance(document, dict) else document)]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise Terminal(f"{path} cannot be read ({error}): end the processes of {home} yourself, and remove the file") from error


def refuse_a_second(home: Path) -> None:
    """Raise Terminal if `make up` runs with this home folder, or a killed one has left processes."""
    running = [one.name for one in read(home) if one.running(home)]
    if MAKE_UP in running:
        raise Terminal(f"`make up` is already running with {home}, in another terminal or in the background; `make down` stops it")
    if running:
        raise Terminal(f"an earlier `make up` with {home} left these running: {', '.join(running)}; `make down` stops them")


def delete(home: Path) -> None:
    """Delete the file."""
    _path(home).unlink(missing_ok=True)


def end_all(records: Sequence[ProcessRecord], home: Path) -> list[str]:
    """End each process that is still running, with its descendants; return the names."""
    running = [(one.name, processes) for one in records if (processes := one.running(home))]
    families = [process for _, processes in running for process in processes]
    for process in families:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(families, timeout=10)
    end(families)
    return [name for name, _ in running]


def _is_another(noted: Path, home: Path) -> bool:
    """Whether both are there and are two folders. A home that was moved is not at the noted path any more."""
    return noted.exists() and not noted.samefile(home)


def _group(leader: int, home: Path) -> list[psutil.Process]:
    """Processes of a group that a service of this home folder has started; others may have got the number since."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == leader and Path(process.environ().get(SERVICE_LOG, "")).is_relative_to(home):
                found.append(process)
    return found


def _path(home: Path) -> Path:
    return home / "run" / "up.json"
