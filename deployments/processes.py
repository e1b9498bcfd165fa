"""Processes of the local stack: started with a log file, awaited until they answer, stopped without leftovers."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from car_damage.errors import Terminal
from tasks.run_processes import end

if TYPE_CHECKING:
    import psutil

STOP_TIMEOUT = 15.0
"""Seconds between asking a process to stop and killing what is left of its group."""
POLL = 0.1
"""Seconds between two looks at a process that starts or stops."""
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals that a process does not send itself."""
LOG_TAIL = 1500
"""Characters of its log that are shown of a process that did not start."""


@dataclass(frozen=True)
class Service:
    """A process that answers on a URL."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    health: "str | Callable[[], bool]"
    """A URL that answers 2xx once the service is up, or a look that tells."""

    def await_ready(self, timeout: float) -> None:
        """Wait until the service answers.

        Raises:
            Terminal: it ended, see `check`; or it did not answer within `timeout` seconds; with the end of its log.
        """
        deadline = time.monotonic() + timeout
        while not (_answers(self.health) if isinstance(self.health, str) else self.health()):
            self.check()
            if time.monotonic() > deadline:
                where = f" at {self.health}" if isinstance(self.health, str) else ""
                raise Terminal(f"the {self.name} does not answer{where} after {timeout:.0f} s; {self._tail()}")
            time.sleep(POLL)

    def check(self) -> None:
        """Raise Terminal when the service has ended: with the end of its log, or the signal that ended it."""
        code = self.process.poll()
        if code is not None and -code in FROM_OUTSIDE:
            # Its log ends in the middle of whatever it did, and says nothing of this.
            cause = signal.Signals(-code).name
            raise Terminal(f"the {self.name} was ended by {cause}, from outside or for want of memory; its log is {self.log}")
        if code is not None:
            raise Terminal(f"the {self.name} ended with code {code}; {self._tail()}")

    def _tail(self) -> str:
        return f"the end of {self.log}:\n{self.log.read_text(errors='replace')[-LOG_TAIL:]}"


@contextlib.contextmanager
def service(
    name: str, command: Sequence[str], log: Path, health: "str | Callable[[], bool]", env: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Run a service for the length of the block, and end it with all that it started.

    Does not wait for it: several can start at the same time, each with `await_ready` when it is needed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # Ctrl-C reaches this process alone, and the whole group can be ended
        )
    try:
        yield Service(name, process, log, health)
    finally:
        _stop(process)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own service on 127.0.0.1
            return True
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask the process to stop, then end whatever it has started and left."""
    family = descendants(process.pid)
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    end(family)


def descendants(pid: int) -> "list[psutil.Process]":
    """What a process has started, and what that has; those in sessions of their own too, which a group's signal does not reach."""
    import psutil

    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
