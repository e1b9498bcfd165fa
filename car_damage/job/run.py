"""The console script `car-damage-job`: the entry point of the wheel on a cluster. Does stages that a flow run has asked for.

It writes each report as soon as it is there, and derives the next stage's request as the flow does. A stage whose report
is there is not done again, so a run that Databricks starts anew goes on where the last one ended.
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from car_damage.adapters.clock import SystemClock
from car_damage.adapters.folder import Folder
from car_damage.errors import CarDamageError, SettingsError, Unavailable, UnexpectedError
from car_damage.job import handover
from car_damage.job.handover import Place, Told
from car_damage.patience import Patience
from car_damage.platform import Target
from car_damage.ports import Clock, Files
from car_damage.settings import Settings
from car_damage.stage import Stage
from car_damage.stages import stage_named

PROGRESS_EVERY = 10.0
"""Seconds after which progress is told again."""
_WAITS = (15.0,) * 9
"""Seconds between the tries to write a report or a failure: hours of training may depend on it."""

_log = logging.getLogger(__name__)


def run(files: Files, request: str, stages: Sequence[str], job_run: int, clock: Clock | None = None) -> None:
    """Do the stages, from the first on.

    Args:
        files: reaches the folder of hand-overs.
        request: path of the first stage's request.
        stages: names, each one the next of the one before.
        job_run: id of this run of the job.
        clock: for waits between two tries to write.

    Raises:
        CarDamageError: why a stage failed; it was written down where the flow run looks for it.
    """
    place = Place.at(request)
    patiently = Patience(clock or SystemClock(), _WAITS)
    try:
        asked = _asked(files, request, stages[0])
        platform = Target(Settings.model_validate(asked.settings))
        wanted = TypeAdapter(stage_named(asked.stage).request).validate_python(asked.request)
        for name, following in zip(stages, [*stages[1:], ""], strict=True):
            stage = stage_named(name)
            place = Place.of(asked.folder, name, wanted)
            report = handover.answered(files, place, stage.report)
            if report is None:
                report = stage.run(wanted, platform, Shown(files, place))
                patiently(handover.answer, files, place, report)
            _log.info("stage %s: done", name)
            if following:
                wanted = _next_request(stage, following, wanted, report, asked.options)
    except Exception as error:
        told = error if isinstance(error, CarDamageError) else UnexpectedError(f"stage {place.stage}: {type(error).__name__}: {error}")
        patiently(handover.fail, files, place, job_run, told)
        raise


def _asked(files: Files, request: str, first: str) -> handover.Asked:
    asked = handover.asked(files, request)
    if asked.stage != first:
        raise SettingsError(f"{request} asks for the stage {asked.stage}, and the job was told to begin with {first}")
    return asked


def _next_request(stage: Stage[Any, Any], following: str, request: Any, report: Any, options: Mapping[str, bool]) -> Any:
    if stage.next is None or stage.next.stage != following:
        raise SettingsError(f"the job was told to do the stage {following} after {stage.name}, which it does not follow")
    return stage.next.request(request, report, options)


class Shown:
    """Progress as lines of the run's output, and as a file for who waits; now and then, and at the end of each step.

    Args:
        files: reaches the folder of hand-overs.
        place: of the stage's request.
    """

    def __init__(self, files: Files, place: Place) -> None:
        self._files, self._place = files, place
        self._last: float | None = None

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        now = time.monotonic()
        if done < total and self._last is not None and now - self._last < PROGRESS_EVERY:
            return
        self._last = now
        _log.info("%s: %s of %s%s", step, done, total, f", {message}" if message else "")
        try:
            handover.tell(self._files, self._place, Told(step, done, total, message))
        except Unavailable as error:
            _log.warning("who waits is not told how far this is: %s", error)


def main() -> None:
    """The console script. Returns when all is done, and raises when not: a cluster calls it in a process that is not its own."""
    parser = argparse.ArgumentParser(prog="car-damage-job", description="Do stages that a flow run has asked for.")
    parser.add_argument("--request", required=True, help="path of the request")
    parser.add_argument("--stages", required=True, help="the stages to do, separated by commas; the request is the first one's")
    parser.add_argument("--job-run", required=True, type=int, help="id of this run of the job")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s", force=True)
    if not given.request:
        raise SettingsError("a flow run starts this job, with what it wants done: run the deployment retrain or score in Prefect")
    run(Folder(), given.request, given.stages.split(","), given.job_run)


if __name__ == "__main__":
    main()
