"""Processes one file in a child process with limits, because its bytes may end the process that decodes them."""

import multiprocessing
import resource
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
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
    forking = multiprocessing.get_context("fork")
    reader, writer = forking.Pipe(duplex=False)
    child = forking.Process(target=_send_result, args=(lambda: work(path, data), writer, seconds, memory))
    child.start()
    writer.close()
    try:
        if not reader.poll(seconds):
            return None, f"decoding took more than {seconds:.0f} s"
        kind, value = reader.recv()
    except (EOFError, OSError):  # the child ended before or while it wrote
        child.join()
        return None, f"decoding ended its process ({_named(child.exitcode or 0)})"
    finally:
        child.kill()
        child.join()
        reader.close()
    if kind == "error":
        raise value
    return (value, "") if kind == "row" else (None, "decoding needed more memory than allowed")


def _send_result(do: Callable[[], Mapping[str, Any]], writer: Connection, seconds: float, memory: int) -> None:
    """Send the result of the work to the parent. Runs in the child."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds)  # ends a child whose parent has ended
    _limit_memory(memory)
    try:
        writer.send(("row", do()))
    except MemoryError:
        writer.send(("memory", None))
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        try:
            writer.send(("error", error))
        except Exception:  # noqa: BLE001 - an error that cannot be pickled is replaced by one with its message
            writer.send(("error", RuntimeError(f"{type(error).__name__}: {error}")))


def _limit_memory(memory: int) -> None:
    statm = Path("/proc/self/statm")
    if not statm.exists():  # only Linux has it, and only Linux enforces the limit
        return
    limit = int(statm.read_text().split()[0]) * resource.getpagesize() + memory
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _named(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
