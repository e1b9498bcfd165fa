"""A stage's progress, shown where a person looks: the log, and a progress bar in the Prefect UI."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from car_damage.errors import CarDamageError
from car_damage.pipeline import Progress

INTERVAL = 1.0
"""Seconds between two updates: one costs some milliseconds of the stage's own time, and a log of thousands is not read."""


def shown(name: str) -> Progress:
    """The progress of one task run: a line of the log and a bar for each step, at its start, now and then, and at its end."""
    return _Shown(name)


@contextmanager
def if_possible(what: str) -> Iterator[None]:
    """Show something to a person. Where that cannot be done the log says so: the work itself must not fail for it."""
    try:
        yield
    except (httpx.HTTPError, PrefectException, CarDamageError) as error:
        get_run_logger().warning("%s could not be shown: %s", what, error)


class _Shown:
    def __init__(self, name: str) -> None:
        self._name = name
        self._logger = get_run_logger()
        self._bars: dict[str, UUID] = {}
        self._step, self._next = "", 0.0

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        now = time.monotonic()
        if step == self._step and now < self._next and done < total:
            return
        self._step, self._next = step, now + INTERVAL
        self._logger.info("%s %d of %d%s", step, done, total, f": {message}" if message else "")
        percent = 100.0 * done / total if total else 100.0
        with if_possible("progress"):
            if step in self._bars:
                update_progress_artifact(self._bars[step], progress=percent)
            else:
                key = f"progress-{self._name}-{step}".lower().replace("_", "-")
                bar = create_progress_artifact(percent, key=key, description=f"{self._name}: {step}")
                # Prefect's type allows for the coroutine that it returns to asynchronous callers.
                self._bars[step] = cast("UUID", bar)
