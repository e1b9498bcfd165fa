"""Processes one file in a child process with limits, because its bytes may end the process that decodes them."""

import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from car_damage.ports import FileProcessor

SECONDS = 60.0
"""Time limit for one file, including the time in which it waits for a processor."""
MEMORY = 2 << 30
"""Bytes that the child may use in addition to its parent's memory."""


def row(work: FileProcessor, path: str, data: bytes, seconds: float = SECONDS, memory: int = MEMORY) -> Mapping[str, Any]:
    """The row that `work` returns for the file; its row of a fatal file if two children in a row end without a result.

    Two, because something else may have ended the first one, and a verdict is permanent. The process must have one thread, like
    Spark's Python workers, because the child is a fork of it.
    """
    for _ in range(2):
        given, why = _run_in_child(work, path, data, seconds, memory)
        if given is not None:
            return given
    return work.fatal(path, data, why)


def _run_in_child(work: FileProcessor, path: str, data: bytes, seconds: float, memory: int) -> tuple[Mapping[str, Any] | None, str]:
    """The row and an empty text; or None and the reason why the child has no result."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _send_result(lambda: work(path, data), writer, seconds, memory)
    os.close(writer)
    try:
        result = _read(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)  # safe: its process id is not reused before waitpid
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if result is None:
        return None, f"decoding took more than {seconds:.0f} s"
    try:
        kind, value = pickle.loads(result)  # noqa: S301 - our own child wrote it
    except (EOFError, pickle.UnpicklingError):  # the child ended before or while it wrote
        return None, f"decoding ended its process ({_named(ended)})"
    if kind == "error":
        raise value
    return (value, "") if kind == "row" else (None, "decoding needed more memory than allowed")


def _send_result(do: Callable[[], Mapping[str, Any]], writer: int, seconds: float, memory: int) -> None:
    """Write the result of the work to the pipe. Runs in the child, and never returns."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds)  # ends a child whose parent has ended
        _limit_memory(memory)
        try:
            result = pickle.dumps(("row", do()))
        except MemoryError:
            result = pickle.dumps(("memory", None))
        except Exception as error:  # noqa: BLE001 - raised again in the parent
            result = _pickled(error)
        while result:
            result = result[os.write(writer, result) :]
    finally:
        os._exit(0)


def _pickled(error: Exception) -> bytes:
    try:
        return pickle.dumps(("error", error))
    except Exception:  # noqa: BLE001 - an error that cannot be pickled is replaced by one with its message
        return pickle.dumps(("error", RuntimeError(f"{type(error).__name__}: {error}")))


def _limit_memory(memory: int) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():  # only Linux has it, and only Linux enforces the limit
        return
    limit = int(statm.read_text().split()[0]) * resource.getpagesize() + memory
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _read(reader: int, deadline: float) -> bytes | None:
    """Everything that the child wrote before it ended; None if it did not end in time."""
    result = bytearray()
    while True:
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        part = os.read(reader, 1 << 16)
        if not part:
            return bytes(result)
        result += part


def _named(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
