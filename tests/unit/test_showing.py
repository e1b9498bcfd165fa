import logging

import pytest

from car_damage.errors import RegistryError
from car_damage.showing import if_possible


@pytest.mark.parametrize("error", [KeyError("candidate_cost"), RegistryError("no such file"), ZeroDivisionError()])
def test_a_failure_to_show_something_is_logged_and_never_fails_the_work(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), if_possible("the decision"):
        raise error
    [record] = caplog.records
    assert record.getMessage().startswith(f"the decision could not be shown: {type(error).__name__}")
    # Only a traceback shows the cause of an error that we did not foresee.
    assert bool(record.exc_info) == (not isinstance(error, RegistryError))


def test_the_end_of_the_process_is_no_failure_to_show() -> None:
    with pytest.raises(KeyboardInterrupt), if_possible("the decision"):
        raise KeyboardInterrupt
