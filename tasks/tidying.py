"""The end of a run: removes what nothing needs any more. The work of the night is done, so a failure is told and does not fail it."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_run_logger

from car_damage.job import handover
from car_damage.pipeline import Leftover, TidyReport, TidyRequest
from car_damage.platform import Target
from tasks import artifacts
from tasks.old_pictures import remove_pictures
from tasks.progress import if_possible
from tasks.runner import Runner
from tasks.stages import tidy_up


def tidy_if_possible(request: TidyRequest, runner: Runner) -> TidyReport:
    """What was removed. Where that failed, the next run removes what is left."""
    leftovers: list[Leftover] = []
    settings, now = runner.platform.settings, runner.platform.clock.now()
    with _told("tables and trainings"):
        leftovers += tidy_up(request, runner).leftovers
    with _told("pictures in artifacts"):
        leftovers += remove_pictures(now, settings.tracking.keep_days)
    with _told("the folder of hand-overs"):
        leftovers += handover.remove_old(Target(settings).handovers, settings, now)
    report = TidyReport(tuple(leftovers))
    with if_possible("what was removed"):
        artifacts.tidied(report)
    return report


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Log whatever goes wrong, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the night is done
        get_run_logger().warning("the run is done, but could not tidy up %s; the next run tries again: %s", what, error, exc_info=True)
