"""The error of a failed run begins with the stage that failed, because a person reads that first."""

from typing import Any

import pytest

from car_damage.errors import CarDamageError, Terminal, Unavailable, UnexpectedError
from car_damage.pipeline import ValidateReport, ValidateRequest
from car_damage.stage import Stage
from tasks.runner import LocalRunner


def failing(error: Exception) -> Stage[ValidateRequest, ValidateReport]:
    def work(*_: Any) -> ValidateReport:
        raise error

    return Stage("validate", ValidateRequest, ValidateReport, work)


@pytest.mark.parametrize("error", [Unavailable("the disk hiccups"), Terminal("the folder is not there")])
def test_an_error_keeps_its_kind_and_gains_its_stage(error: CarDamageError) -> None:
    with pytest.raises(type(error), match=f"^stage validate: {error}$"):
        LocalRunner(None).run(failing(error), ValidateRequest("flow"), lambda *_: None)  # type: ignore[arg-type]


def test_one_that_nobody_foresaw_names_stage_cause_and_next_step_and_is_not_tried_again() -> None:
    with pytest.raises(UnexpectedError, match=r"^stage validate: KeyError: 'sha256'; this was not foreseen: .* Start a new run"):
        LocalRunner(None).run(failing(KeyError("sha256")), ValidateRequest("flow"), lambda *_: None)  # type: ignore[arg-type]
