"""Reads many photos in threads, and tries those again that a short outage may have kept away."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from car_damage.errors import CarDamageError, PhotoChanged, Unavailable
from car_damage.ports import Clock
from car_damage.stage import Progress

WAITS = (1.0, 5.0, 15.0)
"""Seconds between the tries to read a photo, which a short outage must not leave out."""
_UPDATES = 50
"""Updates of the progress, at most."""

_log = logging.getLogger(__name__)


def failures(
    pool: ThreadPoolExecutor, read: Callable[[int], None], photos: int, clock: Clock, progress: Progress
) -> dict[int, CarDamageError]:
    """Read the photos 0 to n - 1, and return those that could not be read, with the reason.

    Those whose reason may pass are tried again together after each of WAITS.

    Args:
        pool: `read` is called in its threads.
        read: reads a photo by its number, and keeps what it needs of it. Raises PhotoChanged or Unavailable.
        photos: n.
        clock: waits.
        progress: called for the step `photos`.
    """

    def attempt(number: int) -> CarDamageError | None:
        try:
            read(number)
        except (PhotoChanged, Unavailable) as error:
            return error
        return None

    failed: dict[int, CarDamageError] = {}
    for done, (number, error) in enumerate(zip(range(photos), pool.map(attempt, range(photos)), strict=True), 1):
        if error is not None:
            failed[number] = error
        if done % max(1, photos // _UPDATES) == 0 or done == photos:
            progress("photos", done, photos)
    for wait in WAITS:
        if not (again := [number for number, error in failed.items() if isinstance(error, Unavailable)]):
            break
        _log.warning("trying %d photos again in %.0f s: %s", len(again), wait, failed[again[0]])
        clock.sleep(wait)
        for number, error in zip(again, pool.map(attempt, again), strict=True):
            if error is None:
                del failed[number]
            else:
                failed[number] = error
    return failed
