"""Processor time and memory that the models' processes use."""

import time
from dataclasses import dataclass

import psutil

from car_damage.machine import cores


@dataclass(frozen=True)
class Usage:
    """Processor time and memory that one process uses."""

    cpu: float = 0.0
    """Percent of the processor time of all cores that this server may use."""
    memory: int = 0
    """Bytes."""
    memory_share: float = 0.0
    """Percent of this machine's memory."""


@dataclass(frozen=True)
class _Reading:
    process: psutil.Process
    at: float
    cpu_seconds: float


class Meter:
    """Reads the usage of processes. Processor time is measured since the previous reading, or since the process began."""

    def __init__(self) -> None:
        self._readings: dict[int, _Reading] = {}

    def read(self, pid: int | None) -> Usage:
        """The usage of a process; zero without a process."""
        self._readings = {known: reading for known, reading in self._readings.items() if reading.process.is_running()}
        if pid is None:
            return Usage()
        try:
            before = self._readings.get(pid) or _first(pid)
            with before.process.oneshot():
                times = before.process.cpu_times()
                reading = _Reading(before.process, time.time(), times.user + times.system)
                memory, share = before.process.memory_info().rss, before.process.memory_percent()
        except psutil.NoSuchProcess:
            return Usage()
        self._readings[pid] = reading
        elapsed = max(reading.at - before.at, 0.001)
        return Usage(min(100.0, 100 * (reading.cpu_seconds - before.cpu_seconds) / elapsed / cores()), memory, share)


def _first(pid: int) -> _Reading:
    process = psutil.Process(pid)
    return _Reading(process, process.create_time(), 0.0)
