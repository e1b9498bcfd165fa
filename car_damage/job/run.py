"""The console script `car-damage-job`: the entry point of the wheel in a Databricks job. Does the stages that a flow run requests.

It writes each report as soon as a stage has ended, and makes the next stage's request as the flow does. A stage that has a report
is not done again, so a run that Databricks restarts continues where the last one ended.
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from car_damage.adapters.clock import SystemClock
from car_damage.adapters.databricks import limits
from car_damage.adapters.folder import Folder
from car_damage.errors import CarDamageError, SettingsError, UnexpectedError
from car_damage.job import handover
from car_damage.job.handover import Place, Step
from car_damage.machine import keep_to_this_machine
from car_damage.patience import Patience
from car_damage.platform import Target
from car_damage.ports import Clock, Files
from car_damage.settings import Settings
from car_damage.showing import if_possible
from car_damage.stage import Stage
from car_damage.stages import stage_named

PROGRESS_EVERY = 10.0
"""Seconds between two lines of progress."""
_WAITS = (15.0,) * 9
"""Seconds between the tries to write a report or a failure: hours of training may depend on it."""

_log = logging.getLogger(__name__)


def run(files: Files, request: str, stages: Sequence[str], job_run: int, clock: Clock | None = None) -> None:
    """Do the stages, from the first on.

    Args:
        files: reaches the folder of hand-overs.
        request: path of the first stage's request.
        stages: names of stages, in the order in which they follow each other.
        job_run: id of this run of the job.
        clock: waits between two tries to write.

    Raises:
        CarDamageError: why a stage failed; the flow run finds it in a file, too.
    """
    keep_to_this_machine()
    limits.set_for_a_job()
    place = Place.at(request)
    patiently = Patience(clock or SystemClock(), _WAITS)
    try:
        job_request = _request(files, request, stages[0])
        platform = Target(Settings.model_validate(job_request.settings))
        wanted = TypeAdapter(stage_named(job_request.stage).request).validate_python(job_request.request)
        for name, following in zip(stages, [*stages[1:], ""], strict=True):
            stage = stage_named(name)
            place = Place.of(job_request.folder, name, wanted)
            report = handover.read_report(files, place, stage.report)
            if report is None:
                report = stage.run(wanted, platform, JobProgress(files, place))
                patiently(handover.write_report, files, place, report)
            _log.info("stage %s: done", name)
            if following:
                wanted = _next_request(stage, following, wanted, report, job_request.options)
    except Exception as error:
        failure = error if isinstance(error, CarDamageError) else UnexpectedError(f"stage {place.stage}: {type(error).__name__}: {error}")
        patiently(handover.write_failure, files, place, job_run, failure)
        raise


def _request(files: Files, request: str, first: str) -> handover.JobRequest:
    found = handover.read_request(files, request)
    if found.stage != first:
        raise SettingsError(f"{request} is a request for the stage {found.stage}, but the job's parameters begin with the stage {first}")
    return found


def _next_request(stage: Stage[Any, Any], following: str, request: Any, report: Any, options: Mapping[str, bool]) -> Any:
    if stage.next is None or stage.next.stage != following:
        raise SettingsError(f"the job's parameters name the stage {following} after {stage.name}, but it does not follow that stage")
    return stage.next.request(request, report, options)


class JobProgress:
    """Progress as lines of the run's output, and as a file for the flow run: every PROGRESS_EVERY seconds, and at the end of each step."""

    def __init__(self, files: Files, place: Place) -> None:
        self._files, self._place = files, place
        self._last: float | None = None

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        now = time.monotonic()
        if done < total and self._last is not None and now - self._last < PROGRESS_EVERY:
            return
        self._last = now
        _log.info("%s: %s of %s%s", step, done, total, f", {message}" if message else "")
        with if_possible("the job's progress"):
            handover.write_progress(self._files, self._place, Step(step, done, total, message))


def main() -> None:
    """The console script. Returns when all stages are done, and raises otherwise: a cluster calls it inside a process of its own."""
    parser = argparse.ArgumentParser(prog="car-damage-job", description="Do the stages that a flow run requests.")
    parser.add_argument("--request", required=True, help="path of the request")
    parser.add_argument("--stages", required=True, help="the stages to do, separated by commas; the request is for the first one")
    parser.add_argument("--job-run", required=True, type=int, help="id of this run of the job")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s", force=True)
    if not given.request:
        raise SettingsError(
            "a flow run starts this job and gives it a request: run the deployment retrain, score, monitor or forget in Prefect"
        )
    run(Folder(), given.request, given.stages.split(","), given.job_run)


if __name__ == "__main__":
    main()
