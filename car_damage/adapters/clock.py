"""The real clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """Time as the machine keeps it."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
