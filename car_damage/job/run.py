"""The console script `car-damage-job`: the entry point of the wheel on a cluster. Does stages that a flow run has asked for.

It writes each report as soon as it is there, and derives the next stage's request as the flow does. A stage whose report
is there is not done again, so a run that Databricks starts anew goes on where the last one ended.
"""

import importlib
import logging
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from car_damage.engines.folder import Folder
from car_damage.errors import CarDamageError, SettingsError, Unavailable
from car_damage.job import handover
from car_damage.job.handover import Place, Told
from car_damage.pipeline import Stage, following
from car_damage.platform import Target
from car_damage.ports import Files
from car_damage.settings import Settings

CHAINS: tuple[tuple[str, ...], ...] = (("validate", "silver"), ("train", "register"), ("score",))
"""The stages that one run of a job does after one another."""
PROGRESS_EVERY = 10.0
"""Seconds after which progress is told again."""

_log = logging.getLogger(__name__)


def stage_named(name: str) -> Stage[Any, Any]:
    """A stage that jobs do. Its module, and with it TensorFlow, is imported only now.

    Raises:
        SettingsError: there is no such stage.
    """
    if not any(name in chain for chain in CHAINS):
        raise SettingsError(f"a job does no stage {name}")
    stage: Stage[Any, Any] = getattr(importlib.import_module(f"car_damage.stages.{name}"), name.upper())
    return stage


def run(files: Files, request: str, stages: Sequence[str], job_run: int) -> None:
    """Do the stages, from the first on.

    Args:
        files: reaches the folder of hand-overs.
        request: path of the first stage's request.
        stages: names, each one the next of the one before.
        job_run: id of this run of the job.

    Raises:
        CarDamageError: why a stage failed; it was written down where the flow run looks for it.
    """
    first = Place.at(request)
    try:
        asked = handover.asked(files, request)
        if asked.stage != stages[0]:
            raise SettingsError(f"{request} asks for the stage {asked.stage}, and the job was told to begin with {stages[0]}")
        platform = Target(Settings.model_validate(asked.settings))
        wanted = TypeAdapter(stage_named(asked.stage).request).validate_python(asked.request)
    except CarDamageError as error:
        handover.fail(files, first, job_run, error)
        raise
    for name, following_name in zip(stages, [*stages[1:], ""], strict=True):
        stage = stage_named(name)
        place = Place.of(asked.folder, name, wanted)
        report = handover.answered(files, place, stage.report)
        if report is None:
            try:
                report = stage.run(wanted, platform, Shown(files, place))
            except CarDamageError as error:
                handover.fail(files, place, job_run, error)
                raise
            handover.answer(files, place, report)
        _log.info("stage %s: done", name)
        if following_name:
            wanted = following(name, wanted, report, asked.options)


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


def _main(
    request: Annotated[str, typer.Option(help="Path of the request.")],
    stages: Annotated[str, typer.Option(help="The stages to do, separated by commas; the request is the first one's.")],
    job_run: Annotated[int, typer.Option(help="Id of this run of the job.")],
) -> None:
    """Do stages that a flow run has asked for."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s", force=True)
    try:
        run(Folder(), request, stages.split(","), job_run)
    except CarDamageError as error:
        _log.info("the stage's traceback", exc_info=True)
        sys.exit(f"error: {error}")


def main() -> None:
    """The console script."""
    typer.run(_main)


if __name__ == "__main__":
    main()
