"""The system clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The port `Clock` on the machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
