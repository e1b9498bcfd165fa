"""What the models' processes take of this machine."""

import time
from dataclasses import dataclass

import psutil

from car_damage.machine import cores


@dataclass(frozen=True)
class Usage:
    """What one process takes."""

    cpu: float = 0.0
    """Percent of the processor time of all cores that this process may use."""
    memory: int = 0
    """Bytes."""
    memory_share: float = 0.0
    """Percent of this machine's memory."""


@dataclass(frozen=True)
class _Look:
    process: psutil.Process
    at: float
    cpu_seconds: float


class Meter:
    """Looks at processes again and again. A process' processor time is that since the look before, or since it began."""

    def __init__(self) -> None:
        self._looks: dict[int, _Look] = {}

    def look(self, pid: int | None) -> Usage:
        """What a process takes; nothing when there is none."""
        self._looks = {known: look for known, look in self._looks.items() if look.process.is_running()}
        if pid is None:
            return Usage()
        try:
            before = self._looks.get(pid) or _first(pid)
            with before.process.oneshot():
                times = before.process.cpu_times()
                look = _Look(before.process, time.time(), times.user + times.system)
                memory, share = before.process.memory_info().rss, before.process.memory_percent()
        except psutil.NoSuchProcess:
            return Usage()
        self._looks[pid] = look
        elapsed = max(look.at - before.at, 0.001)
        return Usage(min(100.0, 100 * (look.cpu_seconds - before.cpu_seconds) / elapsed / cores()), memory, share)


def _first(pid: int) -> _Look:
    process = psutil.Process(pid)
    return _Look(process, process.create_time(), 0.0)
