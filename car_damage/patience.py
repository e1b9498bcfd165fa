"""Repeats a call that fails for a reason which may pass."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from car_damage.errors import Unavailable
from car_damage.ports import Clock

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)


def log_retry(error: Unavailable, seconds: float) -> None:
    """Log that a call failed, and when it is repeated."""
    _log.warning("trying again in %.0f s: %s", seconds, error)


class Patience:
    """Repeats a call while it raises Unavailable; raises the last such error when it gives up.

    It waits for as long as the service asks for. It gives up at once if that is longer than it would go on trying.

    Args:
        clock: measures the time, and waits.
        waits: seconds before the second try, the third, and so on.
        limit: seconds after the first try until which the last wait is repeated. Without a limit there are as many tries as waits, and one.
        retrying: called before each wait, with the error and the seconds to wait. What it raises ends the tries.
    """

    def __init__(
        self,
        clock: Clock,
        waits: Sequence[float],
        limit: float | None = None,
        retrying: Callable[[Unavailable, float], None] = log_retry,
    ) -> None:
        self._clock, self._waits, self._retrying = clock, waits, retrying
        self._limit = limit
        self._tries = math.inf if limit is not None else len(waits) + 1

    def __call__(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the call returns, as soon as it returns.

        Raises:
            Unavailable: the call still failed when the tries or the time were used up.
        """
        started, tries = self._clock.monotonic(), 0
        while True:
            try:
                return call(*args, **kwargs)
            except Unavailable as error:
                tries += 1
                seconds = self._waits[min(tries, len(self._waits)) - 1] if self._waits else 0.0
                left = sum(self._waits[tries - 1 :]) if self._limit is None else started + self._limit - self._clock.monotonic()
                over = tries >= self._tries or (self._limit is not None and left <= 0)
                if over or left < error.retry_after > seconds:
                    raise
                seconds = max(seconds, error.retry_after)
                self._retrying(error, seconds)
                self._clock.sleep(seconds)
