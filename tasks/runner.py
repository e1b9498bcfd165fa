"""Where a stage's work runs."""

import logging
from typing import Protocol, TypeVar

from car_damage.errors import CarDamageError, Unforeseen
from car_damage.pipeline import Progress, Stage
from car_damage.platform import Target
from car_damage.ports import Platform
from car_damage.settings import Settings

Req = TypeVar("Req")
Rep = TypeVar("Rep")


class Runner(Protocol):
    """Runs stages, and holds the platform for what the control plane looks at itself."""

    @property
    def platform(self) -> Platform: ...

    def run(self, stage: Stage[Req, Rep], request: Req, progress: Progress) -> Rep:
        """Run a stage to its end and return its report. Raises the stage's own errors."""


class Here:
    """Runs every stage in this process."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def run(self, stage: Stage[Req, Rep], request: Req, progress: Progress) -> Rep:
        try:
            return stage.work(request, self.platform, progress)
        except CarDamageError as error:
            # What a person reads first is the flow run's message, and it has to say where.
            raise type(error)(f"stage {stage.name}: {error}") from error
        except Exception as error:
            raise Unforeseen(
                f"stage {stage.name}: {type(error).__name__}: {error}; this was not foreseen: the log has where it comes from. "
                "Start a new run, which goes on where this one ended, and report it if it comes again"
            ) from error


def runner_for(settings: Settings) -> Runner:
    """The runner that the settings ask for. One a flow run: its platform makes each client once."""
    # PREFECT_LOGGING_EXTRA_LOGGERS gives the library's logger Prefect's handler, but not a level at which it says anything.
    if (library := logging.getLogger("car_damage")).level == logging.NOTSET:
        library.setLevel(logging.INFO)
    return Here(Target(settings))
