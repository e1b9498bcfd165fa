import pytest

from car_damage.errors import FileMissing, Terminal, Unavailable
from car_damage.patience import Patience
from tests.fakes import Time


class Service:
    """Fails a given number of times, then answers."""

    def __init__(self, failures: int, seconds: float = 0.0) -> None:
        self.clock, self.failures, self.calls, self.seconds = Time(), failures, 0, seconds

    def __call__(self, answer: str) -> str:
        self.calls += 1
        self.clock.seconds += self.seconds
        if self.calls <= self.failures:
            raise Unavailable(f"failure {self.calls}")
        return answer


def test_a_call_that_answers_is_made_once_and_without_a_wait() -> None:
    service = Service(0)
    assert Patience(service.clock, [5.0])(service, "yes") == "yes"
    assert (service.calls, service.clock.seconds) == (1, 0.0)


def test_the_waits_are_taken_in_their_order_and_then_the_last_error_is_raised() -> None:
    service = Service(2)
    assert Patience(service.clock, [1.0, 5.0])(service, "yes") == "yes"
    assert (service.calls, service.clock.seconds) == (3, 6.0)
    service = Service(3)
    with pytest.raises(Unavailable, match="failure 3"):
        Patience(service.clock, [1.0, 5.0])(service, "yes")
    assert service.clock.seconds == 6.0


def test_with_a_limit_the_last_wait_is_repeated_until_then() -> None:
    service = Service(1000)
    with pytest.raises(Unavailable):
        Patience(service.clock, [1.0, 10.0], limit=35.0)(service, "yes")
    assert (service.calls, service.clock.seconds) == (6, 41.0)


def test_the_limit_counts_from_the_first_try_however_long_a_try_takes() -> None:
    service = Service(1000, seconds=30.0)
    with pytest.raises(Unavailable):
        Patience(service.clock, [1.0], limit=35.0)(service, "yes")
    assert service.calls == 2


def test_what_is_raised_before_a_wait_ends_the_tries() -> None:
    def cancelled(error: Unavailable, seconds: float) -> None:
        raise Terminal("cancelled") from error

    service = Service(1000)
    with pytest.raises(Terminal, match="cancelled"):
        Patience(service.clock, [1.0], 100.0, cancelled)(service, "yes")
    assert (service.calls, service.clock.seconds) == (1, 0.0)


def test_only_what_may_pass_is_tried_again() -> None:
    clock = Time()

    def refuse() -> None:
        raise Terminal("no")

    with pytest.raises(Terminal):
        Patience(clock, [1.0])(refuse)
    assert clock.seconds == 0.0


def test_a_file_that_is_missing_is_one_that_may_come() -> None:
    assert issubclass(FileMissing, Unavailable)
