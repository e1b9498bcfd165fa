"""Shows something to a person. A failure to show never fails the work."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from car_damage.errors import CarDamageError

_log = logging.getLogger(__name__)


@contextmanager
def if_possible(what: str, log: "logging.Logger | logging.LoggerAdapter[logging.Logger]" = _log) -> Iterator[None]:
    """Log any error of the block as a warning, and go on. An error that is none of ours is logged with its traceback.

    Args:
        what: is shown in the block, for the warning.
        log: takes the warning.
    """
    try:
        yield
    except Exception as error:
        log.warning("%s could not be shown: %s: %s", what, type(error).__name__, error, exc_info=not isinstance(error, CarDamageError))
