"""A stage's progress, shown where a person looks: the log, and a progress bar in the Prefect UI."""

import time
from contextlib import AbstractContextManager
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from car_damage import showing

PATIENCE = 2.0
"""Seconds after which a step that is not done gets a bar: one that was full before a person could look only adds to the list."""
INTERVAL = 1.0
"""Seconds between two updates: one costs some milliseconds of the stage's own time, and a log of thousands is not read."""


def if_possible(what: str) -> AbstractContextManager[None]:
    """`showing.if_possible`, with a warning in the log of the run."""
    return showing.if_possible(what, get_run_logger())


class TaskProgress:
    """The progress of one task run: a line of the log at a step's start, now and then, and at its end; and one bar."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger = get_run_logger()
        self._bar: UUID | None = None
        self._step, self._start, self._next = "", 0.0, 0.0

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        now = time.monotonic()
        if step == self._step and now < self._next and done < total:
            return
        if step != self._step:
            self._step, self._start = step, now
        self._next = now + INTERVAL
        self._logger.info("%s %d of %d%s", step, done, total, f": {message}" if message else "")
        if self._bar is None and (done >= total or now < self._start + PATIENCE):
            return
        percent = 100.0 * done / total if total else 100.0
        described = self._name if step == self._name else f"{self._name}: {step}"
        with if_possible("progress"):
            if self._bar is None:
                # Prefect's type allows for the coroutine that it returns to asynchronous callers.
                key = f"progress-{self._name}".lower().replace("_", "-")
                self._bar = cast("UUID", create_progress_artifact(percent, key=key, description=described))
            else:
                update_progress_artifact(self._bar, progress=percent, description=described)
