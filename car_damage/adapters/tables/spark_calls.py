"""Waiting for Spark, such that what is no longer waited for does not go on there."""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from car_damage.adapters.tables.spark_errors import foreign

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ENDS = 30.0
"""Seconds that what was begun in Spark may take to end once it is no longer waited for."""

_T = TypeVar("_T")


def awaited(session: "SparkSession", call: Callable[[], _T]) -> _T:
    """What the call returns or raises; Spark's work for it is ended when the wait is, as it is when a run is cancelled.

    The call runs in a thread beside. In the one that waits it could not be ended: pyspark itself waits there for what it
    began, whatever has been raised.

    Args:
        session: the session that the call uses.
        call: begins work in Spark and waits for it.
    """
    tag, cancel = _tagging(session)
    name = uuid.uuid4().hex
    future: Future[_T] = Future()

    def run() -> None:
        try:
            tag(name)  # for all that this thread begins
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="spark", daemon=True).start()
    try:
        while not wait([future], 1).done:  # in steps: what is raised in this thread from outside comes through between two of them
            pass
    except BaseException:
        deadline = time.monotonic() + ENDS
        with suppress(*foreign()):
            while not future.done() and time.monotonic() < deadline:
                cancel(name)  # again each second: what has not begun yet is not found
                wait([future], 1)
        raise
    return future.result()


def _tagging(session: "SparkSession") -> tuple[Callable[[str], object], Callable[[str], object]]:
    """How work is given a name, and how all of that name is ended."""
    context = getattr(session, "sparkContext", None)
    if context is None:  # Spark Connect
        return session.addTag, session.interruptTag
    # The classic session's own tags (Spark 4.2) are known only to the thread that gave them.
    return context.addJobTag, context.cancelJobsWithTag
