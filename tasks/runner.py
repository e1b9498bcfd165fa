"""Runners execute stages: in this process, or as jobs in Databricks."""

import logging
from typing import Protocol, TypeVar

from car_damage.platform import Target
from car_damage.ports import Platform
from car_damage.settings import Settings
from car_damage.stage import Progress, Stage
from tasks import commands, workspace

Req = TypeVar("Req")
Rep = TypeVar("Rep")


class Runner(Protocol):
    """Runs stages. Its platform serves what tasks read without a stage."""

    @property
    def platform(self) -> Platform: ...

    def run(self, stage: Stage[Req, Rep], request: Req, progress: Progress) -> Rep:
        """Run a stage to its end and return its report. Raises the stage's own errors."""

    def cancel(self, flow_run: str) -> None:
        """End remote work of a flow run whose own process has ended."""

    def underway(self) -> list[str]:
        """The remote work of all flow runs that has not ended, each by where a person looks at it. Raises CarDamageError."""


class LocalRunner:
    """Runs every stage in this process."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def run(self, stage: Stage[Req, Rep], request: Req, progress: Progress) -> Rep:
        with commands.advised():
            return stage.run(request, self.platform, progress)

    def cancel(self, flow_run: str) -> None:
        """Do nothing: there is no remote work."""

    def underway(self) -> list[str]:
        """None."""
        return []


def runner_for(settings: Settings) -> Runner:
    """The runner for `databricks.stages`. Make one for each flow run: its platform creates each client once."""
    # PREFECT_LOGGING_EXTRA_LOGGERS gives the library's logger a handler, but leaves its level above INFO.
    if (library := logging.getLogger("car_damage")).level == logging.NOTSET:
        library.setLevel(logging.INFO)
    target = Target(settings)
    workspace.use_credentials(settings.databricks.credentials)
    return LocalRunner(target) if settings.databricks.stages == "here" else workspace.runner(target)
