"""The work of each stage, one module a stage, which ends with the stage's declaration: STAGE."""

import importlib
from pkgutil import iter_modules
from typing import Any

from car_damage.errors import SettingsError
from car_damage.stage import Stage


def stage_named(name: str) -> Stage[Any, Any]:
    """The stage of this name, for a job. Imports its module only.

    Raises:
        SettingsError: there is no such stage, or no job does it.
    """
    module = importlib.import_module(f"{__name__}.{name}") if name in {module.name for module in iter_modules(__path__)} else None
    stage = getattr(module, "STAGE", None)
    if not isinstance(stage, Stage) or stage.job is None:
        raise SettingsError(f"{name} is no stage that a job does")
    return stage


def job_chain(stage: Stage[Any, Any]) -> tuple[Stage[Any, Any], ...]:
    """This stage, and those that its job does after it."""
    return (stage,) if stage.next is None else (stage, *job_chain(stage_named(stage.next.stage)))
