"""Translates Spark's errors, each into a message of one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from car_damage.adapters.tables.delta import disk_full
from car_damage.errors import CommitConflict, Terminal, Unavailable

_CONFLICT = ("DELTA_CONCURRENT", "ConcurrentAppendException", "ConcurrentDelete", "ConcurrentWriteException", "ConcurrentTransaction")
_DIED = ("Python worker exited unexpectedly", "ExecutorLostFailure")
_UNREACHABLE = ("UNAVAILABLE", "SparkContext was shut down")
_LENGTH = 600
"""Characters of Spark's error in our message, at most: Spark appends the stack traces of two languages."""


class WorkerDied(Unavailable):
    """Spark gave up a task, because its process died in every attempt."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate Spark's errors.

    Args:
        what: the table or files, as the start of the message.

    Raises:
        CommitConflict: another writer committed first.
        WorkerDied: the process that worked on files died in every attempt.
        Unavailable: a disk is full, or a Spark server does not answer.
        Terminal: Spark's own process has ended, or another error.
    """
    try:
        yield
    except foreign() as error:
        text = f"{type(error).__name__} {condition(error)} {error}"
        line = short(error)
        if (full := disk_full(what, text)) is not None:
            raise full from error
        if any(name in text for name in _CONFLICT):
            raise CommitConflict(f"{what}: another writer committed first ({line})") from error
        if any(name in text for name in _DIED):
            raise WorkerDied(f"{what}: their process died in every attempt ({line})") from error
        if any(name in text for name in _UNREACHABLE):
            raise Unavailable(f"{what}: Spark does not answer ({line})") from error
        if isinstance(error, ConnectionError) or type(error).__name__ == "Py4JNetworkError" or _is_bare(error):
            raise Terminal(
                f"{what}: Spark's Java process has ended ({line}). If it ran out of memory, raise spark.driver.memory in spark.conf. "
                "Start the run again: it continues where this run ended"
            ) from error
        raise Terminal(f"Spark failed on {what}: {line}") from error


def foreign() -> tuple[type[Exception], ...]:
    """The errors that Spark's client raises. A classic session also raises those of its bridge to Java, which Connect lacks."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JError
    except ImportError:
        return (PySparkException,)
    return (PySparkException, Py4JError, ConnectionError)


def condition(error: Exception) -> str:
    """Spark's name of an error, such as PATH_NOT_FOUND; empty if it has none. Some errors have the name only in their message."""
    named = getattr(error, "getCondition", None)
    if named and (name := named()):
        return str(name).partition(".")[0]
    found = re.match(r"\s*\[([A-Z][A-Z0-9_]+)[\].]", str(error))
    return found[1] if found else ""


def short(error: Exception) -> str:
    """One line: the first line of Spark's message and the wrapped Python error, without the stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    python = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Refused)\b", line) and not line.startswith(("org.", "java."))]
    return " ".join(dict.fromkeys([*lines[:1], *python[-1:]]))[:_LENGTH].rstrip(".")


def _is_bare(error: Exception) -> bool:
    """Whether the bridge got no answer from Java: then its error names only the call."""
    return type(error).__name__ == "Py4JError" and "Trace:" not in str(error)
