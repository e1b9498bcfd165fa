"""The end of a run: removes what nothing needs any more. The work of the night is done, so a failure is told and does not fail it."""

from prefect.logging import get_run_logger

from car_damage.pipeline import TidyReport, TidyRequest
from tasks.runner import Runner
from tasks.stages import tidy_up


def tidy_if_possible(request: TidyRequest, runner: Runner) -> TidyReport:
    """What the task `tidy up` removed; nothing where it failed. The next run removes what is left."""
    try:
        return tidy_up(request, runner)
    except Exception as error:  # noqa: BLE001 - whatever it is, the night is done
        get_run_logger().warning("the run is done, but could not tidy up; the next run tries again: %s", error, exc_info=True)
        return TidyReport(())
