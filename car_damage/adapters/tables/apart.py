"""Work on one file in a child process with limits, for bytes that may end whoever decodes them."""

import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from car_damage.ports import Work

SECONDS = 60.0
"""A file may take so long, waiting for its turn on a processor included."""
MEMORY = 2 << 30
"""Bytes that the child may take beyond what its parent has."""


def row(work: Work, path: str, data: bytes, seconds: float = SECONDS, memory: int = MEMORY) -> Mapping[str, Any]:
    """What `work` makes of the file, or its row of a fatal one where two children one after another did not live to tell.

    Two, because the first may have been ended by something else, and the verdict stays. The process must have one thread, as
    Spark's Python workers do: a child is a fork of it.
    """
    for _ in range(2):
        given, why = _asked(work, path, data, seconds, memory)
        if given is not None:
            return given
    return work.fatal(path, data, why)


def _asked(work: Work, path: str, data: bytes, seconds: float, memory: int) -> tuple[Mapping[str, Any] | None, str]:
    """The row, or None and what became of the child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _answer(lambda: work(path, data), writer, seconds, memory)
    os.close(writer)
    try:
        told = _read(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)  # not yet waited for, so the number is its own
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if told is None:
        return None, f"decoding took more than {seconds:.0f} s"
    try:
        kind, value = pickle.loads(told)  # noqa: S301 - what our own child has just written
    except (EOFError, pickle.UnpicklingError):  # it ended before, or in the middle
        return None, f"decoding ended its process ({_named(ended)})"
    if kind == "error":
        raise value
    return (value, "") if kind == "row" else (None, "decoding took more memory than there is")


def _answer(do: Callable[[], Mapping[str, Any]], writer: int, seconds: float, memory: int) -> None:
    """Runs in the child, and never returns."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds)  # for a child that outlives its parent
        _limit_memory(memory)
        try:
            told = pickle.dumps(("row", do()))
        except MemoryError:
            told = pickle.dumps(("memory", None))
        except Exception as error:  # noqa: BLE001 - raised again in the parent
            told = _pickled(error)
        while told:
            told = told[os.write(writer, told) :]
    finally:
        os._exit(0)


def _pickled(error: Exception) -> bytes:
    try:
        return pickle.dumps(("error", error))
    except Exception:  # noqa: BLE001 - whatever an error cannot be pickled for, its words can
        return pickle.dumps(("error", RuntimeError(f"{type(error).__name__}: {error}")))


def _limit_memory(memory: int) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():  # Linux alone tells, and alone keeps to the limit
        return
    wanted = int(statm.read_text().split()[0]) * resource.getpagesize() + memory
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _read(reader: int, deadline: float) -> bytes | None:
    """All that the child wrote before it ended; None where it did not end in time."""
    told = bytearray()
    while True:
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        part = os.read(reader, 1 << 16)
        if not part:
            return bytes(told)
        told += part


def _named(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
