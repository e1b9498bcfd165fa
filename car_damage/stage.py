"""What a stage is, declared once: its name, its types, its work, the job that does it, its deadline, and what follows it.

Everything else is derived: the runner which starts jobs, the job itself, and the tests read it here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from car_damage.errors import CarDamageError, UnexpectedError
from car_damage.ports import Platform
from car_damage.settings import Job

HOUR = 3600.0


class Progress(Protocol):
    """Shows a person how far a stage is."""

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        """`done` of `total` units of `step` are done; `message` adds a detail, such as a loss or a count."""


def silent(step: str, done: int, total: int, message: str = "") -> None:
    """Progress that is not shown."""


Req = TypeVar("Req")
Rep = TypeVar("Rep")


@dataclass(frozen=True)
class Next:
    """The stage that a job does after another one, in the same run of the job."""

    stage: str
    """Its name: that of its module in `car_damage.stages`."""
    request: Callable[[Any, Any, Mapping[str, bool]], Any]
    """Its request, from the request and the report of the stage before, and the parameters of the flow run."""


@dataclass(frozen=True)
class Stage(Generic[Req, Rep]):
    """One stage. Its module in `car_damage.stages` has the stage's name, and holds this declaration as STAGE."""

    name: str
    request: type[Req]
    report: type[Rep]
    work: Callable[[Req, Platform, Progress], Rep]
    job: Job | None = None
    """The job that does the stage. None: it needs no compute of a workspace, and always runs where the flow runs."""
    deadline: float = HOUR
    """Seconds that the stage may take as a job, its cold start included. The Prefect task allows more, so that the job is cancelled
    before the task times out."""
    next: Next | None = None
    """None: the job ends with this stage."""

    def run(self, request: Req, platform: Platform, progress: Progress) -> Rep:
        """Do the work.

        Raises:
            CarDamageError: what the stage raises. The stage's name is put in front, because a person reads this message first.
            UnexpectedError: the stage raised anything else.
        """
        try:
            return self.work(request, platform, progress)
        except CarDamageError as error:
            raise type(error)(f"stage {self.name}: {error}") from error
        except Exception as error:
            raise UnexpectedError(
                f"stage {self.name}: {type(error).__name__}: {error}; this was not foreseen: the traceback is in the log. "
                "Start a new run, which continues where this one ended, and report the error if it comes again"
            ) from error
