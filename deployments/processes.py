"""Starts the processes of the local stack with a log file, waits until they answer, and stops them with their children."""

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
from car_damage.machine import shorten
from tasks.local_server import SERVICE_LOG
from tasks.run_processes import end

if TYPE_CHECKING:
    import psutil

STOP_TIMEOUT = 15.0
"""Seconds between SIGTERM to a process and SIGKILL to its process group."""
POLL = 0.1
"""Seconds between two health checks of a process that starts."""
EXTERNAL_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Signals that a process does not send to itself."""
LOG_TAIL = 1500
"""Characters of the log that an error message shows when a process did not start."""


@dataclass(frozen=True)
class Service:
    """A process that answers on a URL."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    health: "str | Callable[[], bool]"
    """A URL that answers 2xx, or a function that returns True, once the service is ready."""

    def await_ready(self, timeout: float) -> None:
        """Wait until the service answers.

        Raises:
            Terminal: the service ended (see `check`) or did not answer within `timeout` seconds. The message has the end of its log.
        """
        deadline = time.monotonic() + timeout
        while not (_answers(self.health) if isinstance(self.health, str) else self.health()):
            self.check()
            if time.monotonic() > deadline:
                where = f" at {self.health}" if isinstance(self.health, str) else ""
                raise Terminal(f"the {self.name} does not answer{where} after {timeout:.0f} s; {self._tail()}")
            time.sleep(POLL)

    def check(self) -> None:
        """Keep the log short, and raise Terminal if the service has ended. The message has the end of the log, or the signal."""
        shorten(self.log)
        code = self.process.poll()
        if code is not None and -code in EXTERNAL_SIGNALS:
            # The log ends abruptly and does not mention the signal.
            cause = signal.Signals(-code).name
            raise Terminal(f"the {self.name} was ended by {cause}: another process sent it, or memory ran out; its log is {self.log}")
        if code is not None:
            raise Terminal(f"the {self.name} ended with code {code}; {self._tail()}")

    def _tail(self) -> str:
        return f"the end of {self.log}:\n{self.log.read_text(errors='replace')[-LOG_TAIL:]}"


@contextlib.contextmanager
def service(
    name: str, command: Sequence[str], log: Path, health: "str | Callable[[], bool]", env: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Run a service during the block; at the end stop it and its child processes.

    Does not wait until it is ready, so that several services can start at the same time: call `await_ready`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with log.open("ab") as output:  # for appending, so that `shorten` works
        process = subprocess.Popen(
            list(command),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {}), SERVICE_LOG: str(log)},
            start_new_session=True,  # so that Ctrl-C reaches only this process, and the service's group can be killed
        )
    try:
        yield Service(name, process, log, health)
    finally:
        _stop(process)


def free_port() -> int:
    """A port of 127.0.0.1 that is free at this moment."""
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
    """Stop the process, then kill the child processes that it left."""
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
    """All descendants of a process, including those in other sessions, which a signal to its group does not reach."""
    import psutil

    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
