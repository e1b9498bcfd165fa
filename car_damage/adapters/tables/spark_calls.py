"""Waits for Spark, and cancels its work when the wait is interrupted."""

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
"""Seconds that Spark's work may take to end after it was cancelled."""

_T = TypeVar("_T")


def awaited(session: "SparkSession", call: Callable[[], _T]) -> _T:
    """The result of the call, or its error. If the wait is interrupted, as when a run is cancelled, Spark's work is cancelled too.

    The call runs in another thread. In the waiting thread it could not be cancelled: pyspark would wait there for the work to
    end, even after an exception was raised.
    """
    tag, cancel = _tagging(session)
    name = uuid.uuid4().hex
    future: Future[_T] = Future()

    def run() -> None:
        try:
            tag(name)  # applies to all work that this thread starts
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            future.set_exception(error)

    threading.Thread(target=run, name="spark", daemon=True).start()
    try:
        while not wait([future], 1).done:  # in steps, because an exception set by another thread is raised only between them
            pass
    except BaseException:
        deadline = time.monotonic() + ENDS
        with suppress(*foreign()):
            while not future.done() and time.monotonic() < deadline:
                cancel(name)  # again each second, because it does not reach work that has not started yet
                wait([future], 1)
        raise
    return future.result()


def _tagging(session: "SparkSession") -> tuple[Callable[[str], object], Callable[[str], object]]:
    """A function that tags the work of the calling thread, and a function that cancels all work with a tag."""
    context = getattr(session, "sparkContext", None)
    if context is None:  # Spark Connect
        return session.addTag, session.interruptTag
    # The session tags of a classic session (Spark 4.2) are visible only to the thread that set them.
    return context.addJobTag, context.cancelJobsWithTag
