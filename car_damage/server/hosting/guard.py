"""Guards this machine against a model's process: its memory and its log have limits.

No limit of the system does that. RLIMIT_AS counts address space, of which TensorFlow reserves far more than it uses; macOS applies
none of memory; and a process that is stopped, or busy outside of Python, cannot look at itself.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import psutil

from car_damage.machine import shorten

_PERIOD = 0.5
"""Seconds between two looks."""


class Guard:
    """Watches one process until it ends.

    Args:
        process: the process, which appends to the log.
        memory: bytes. When the process takes more, it is killed.
        log: the file.
        keep: bytes at the beginning of the log that stay when it becomes too long.
    """

    def __init__(self, process: asyncio.subprocess.Process, memory: int, log: Path, keep: Callable[[], int]) -> None:
        self._process, self._memory, self._log, self._keep = process, memory, log, keep
        self.killed_because = ""
        """Empty if this has not killed the process."""
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self._process.returncode is None:
            with contextlib.suppress(OSError):  # of the disk
                shorten(self._log, self._keep())
            with contextlib.suppress(psutil.NoSuchProcess):
                if psutil.Process(self._process.pid).memory_info().rss > self._memory:
                    self.killed_because = f"it took more than {self._memory >> 20} MiB of memory, see serving.max_memory_bytes"
                    self._process.kill()
                    return
            await asyncio.sleep(_PERIOD)
