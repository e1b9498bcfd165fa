"""Spark's errors about one thing, turned into ours, each in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from car_damage.adapters.tables.delta import disk_full
from car_damage.errors import CommitConflict, Terminal, Unavailable

_CONFLICT = ("DELTA_CONCURRENT", "ConcurrentAppendException", "ConcurrentDelete", "ConcurrentWriteException", "ConcurrentTransaction")
_DIED = ("Python worker exited unexpectedly", "ExecutorLostFailure")
_UNREACHABLE = ("UNAVAILABLE", "SparkContext was shut down")
_TOLD = 600
"""Characters of a foreign error in a message of ours: Spark adds the stacks of two languages."""


class WorkerDied(Unavailable):
    """Spark gave a task up, because the process that worked on it had died each time."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn Spark's errors about one thing into ours.

    Raises:
        CommitConflict: another writer came first.
        WorkerDied: the process that worked on files died again and again.
        Unavailable: a disk is full, or a server of Spark's does not answer.
        Terminal: Spark's own process has ended, or anything else.
    """
    try:
        yield
    except foreign() as error:
        told = f"{type(error).__name__} {condition(error)} {error}"
        line = short(error)
        if (full := disk_full(what, told)) is not None:
            raise full from error
        if any(name in told for name in _CONFLICT):
            raise CommitConflict(f"{what}: another writer committed first ({line})") from error
        if any(name in told for name in _DIED):
            raise WorkerDied(f"{what}: the process that worked on them died again and again ({line})") from error
        if any(name in told for name in _UNREACHABLE):
            raise Unavailable(f"{what}: Spark does not answer ({line})") from error
        if isinstance(error, ConnectionError) or type(error).__name__ == "Py4JNetworkError" or _is_bare(error):
            raise Terminal(
                f"{what}: Spark's Java process has ended ({line}); where memory ran out, raise spark.driver.memory in spark.conf. "
                "Start the run again: it goes on where this one was"
            ) from error
        raise Terminal(f"Spark failed on {what}: {line}") from error


def foreign() -> tuple[type[Exception], ...]:
    """What Spark's client raises. A classic session also raises the errors of its bridge to Java, which Connect lacks."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JError
    except ImportError:
        return (PySparkException,)
    return (PySparkException, Py4JError, ConnectionError)


def condition(error: Exception) -> str:
    """Spark's name of an error, such as PATH_NOT_FOUND; empty where it has none. Some have it in their words only."""
    named = getattr(error, "getCondition", None)
    if named and (name := named()):
        return str(name).partition(".")[0]
    found = re.match(r"\s*\[([A-Z][A-Z0-9_]+)[\].]", str(error))
    return found[1] if found else ""


def short(error: Exception) -> str:
    """One line: how Spark begins, and the error of Python's that it wraps, without the stacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    python = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line) and not line.startswith(("org.", "java."))]
    return " ".join(dict.fromkeys([*lines[:1], *python[-1:]]))[:_TOLD].rstrip(".")


def _is_bare(error: Exception) -> bool:
    """The bridge had no answer at all: it tells of a call and of nothing that Java said."""
    return type(error).__name__ == "Py4JError" and "Trace:" not in str(error)
