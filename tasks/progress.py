"""A stage's progress, shown where a person looks: the log, and a progress bar in the Prefect UI."""

import time
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from car_damage.pipeline import Progress

INTERVAL = 1.0
"""Seconds between two updates of a bar: an update costs some milliseconds of the stage's own time."""


def shown(name: str) -> Progress:
    """The progress of one task run; its bar appears with the first report and is full with the last one."""
    return _Shown(name)


class _Shown:
    def __init__(self, name: str) -> None:
        self._name = name
        self._logger = get_run_logger()
        self._bars: dict[str, UUID] = {}
        self._next = 0.0
        self._step = ""

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        now = time.monotonic()
        ends = step == self._step and done >= total
        if step == self._step and now < self._next and not ends:
            return
        self._step, self._next = step, now + INTERVAL
        percent = 100.0 * done / total if total else 100.0
        self._logger.info("%s %d of %d%s", step, done, total, f": {message}" if message else "")
        if step in self._bars:
            update_progress_artifact(self._bars[step], progress=percent)
        else:
            description = message or f"{step} of {self._name}"
            key = f"{self._name}-{step}".lower().replace("_", "-")
            # Prefect's type allows for the coroutine that it returns to asynchronous callers.
            self._bars[step] = cast("UUID", create_progress_artifact(percent, key=key, description=description))
