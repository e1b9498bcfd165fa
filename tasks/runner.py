"""Where a stage's work runs."""

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
    """Runs stages, and holds the platform for what the control plane looks at itself."""

    @property
    def platform(self) -> Platform: ...

    def run(self, stage: Stage[Req, Rep], request: Req, progress: Progress) -> Rep:
        """Run a stage to its end and return its report. Raises the stage's own errors."""

    def cancel(self, flow_run: str) -> None:
        """End what goes on elsewhere for a flow run whose own process has ended."""


class Here:
    """Runs every stage in this process."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def run(self, stage: Stage[Req, Rep], request: Req, progress: Progress) -> Rep:
        with commands.advised():
            return stage.run(request, self.platform, progress)

    def cancel(self, flow_run: str) -> None:
        """Nothing goes on elsewhere."""


def runner_for(settings: Settings) -> Runner:
    """The runner that the settings ask for. One a flow run: its platform makes each client once."""
    # PREFECT_LOGGING_EXTRA_LOGGERS gives the library's logger Prefect's handler, but not a level at which it says anything.
    if (library := logging.getLogger("car_damage")).level == logging.NOTSET:
        library.setLevel(logging.INFO)
    target = Target(settings)
    workspace.use_credentials(settings.databricks.credentials)
    return Here(target) if settings.databricks.stages == "here" else workspace.runner(target)
