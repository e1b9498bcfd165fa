"""Counters and timers that an endpoint updates while it works."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import Counter, Histogram, Summary
from starlette.requests import ClientDisconnect

from car_damage.server.errors import ApiError

_ENTITIES = 4
"""Served entities whose measures are kept. Each update adds one, so the oldest are dropped to limit the number of series."""
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds. One photo takes milliseconds; a request that wakes a model takes seconds."""
_MINUTE = 60


class EntityMeasures:
    """Measures of one served entity."""

    def __init__(self) -> None:
        self.requests = Counter("car_damage_requests", "Requests to the endpoint, by status of the response.", ["status"], registry=None)
        self.durations = Histogram(
            "car_damage_request_duration_seconds",
            "Seconds from the arrival of a request to its response, for requests that the model answered.",
            buckets=_BUCKETS,
            registry=None,
        )
        self.starts = Counter("car_damage_model_starts", "Starts of a model's process, by outcome.", ["outcome"], registry=None)
        self.start_seconds = Summary(
            "car_damage_model_start_seconds", "Seconds from the start of a process until its model answered its own example.", registry=None
        )
        for status in ("200", "429", "503"):
            self.requests.labels(status)
        for outcome in ("ready", "failed"):
            self.starts.labels(outcome)


@dataclass(frozen=True)
class Counts:
    """Number of requests in a period."""

    all: int = 0
    client_errors: int = 0
    server_errors: int = 0

    def and_one(self, status: int) -> "Counts":
        """These counts and one more request."""
        return Counts(self.all + 1, self.client_errors + (400 <= status < 500), self.server_errors + (status >= 500))


@dataclass
class Outcome:
    """How a request ended, and which entity answered it. It is filled in while the request is handled."""

    served_by: str
    status: int = 500
    answered: bool = False
    """Whether the model answered, with any status."""
    seconds: float = 0.0
    """From the arrival of the request to its end."""
    request: bytes = b""
    """Its body, if the model answered."""
    response: bytes = b""
    """The body of the response, if the model answered."""

    def record(self, served_by: str, status: int, request: bytes = b"", response: bytes = b"") -> None:
        """Record that the model answered."""
        self.served_by, self.status, self.answered, self.request, self.response = served_by, status, True, request, response


class Measures:
    """Measures of one endpoint, by served entity.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entities: dict[str, EntityMeasures] = {}
        self._seconds: deque[tuple[int, Counts]] = deque()

    def __iter__(self) -> Iterator[tuple[str, EntityMeasures]]:
        return iter(self._entities.items())

    def of(self, served_entity: str) -> EntityMeasures:
        """The measures of a served entity. They start at 0 if it is not among the most recent ones."""
        # Moved to the end, so that the first entity is the least recent one.
        measures = self._entities.pop(served_entity) if served_entity in self._entities else EntityMeasures()
        self._entities[served_entity] = measures
        if len(self._entities) > _ENTITIES:
            del self._entities[next(iter(self._entities))]
        return measures

    @contextlib.contextmanager
    def request(self, served_entity: str, ended: Callable[[Outcome], None] = lambda _: None) -> Iterator[Outcome]:
        """Count a request when it ends.

        Its status is that of the outcome, or of the ApiError that ends it. A client that disconnects counts as 499, as in
        nginx; any other exception counts as 500.

        Args:
            served_entity: the entity to count it for, unless the outcome names another one.
            ended: called with the outcome at the end.
        """
        outcome, began = Outcome(served_entity), self._clock()
        try:
            yield outcome
        except ApiError as error:
            outcome.status = error.kind.status
            raise
        except ClientDisconnect:
            outcome.status = 499
            raise
        finally:
            outcome.seconds = self._clock() - began
            of = self.of(outcome.served_by)
            of.requests.labels(str(outcome.status)).inc()
            if outcome.answered:
                of.durations.observe(outcome.seconds)
            self._count(outcome.status)
            ended(outcome)

    @contextlib.contextmanager
    def start(self, served_entity: str) -> Iterator[None]:
        """Count a start, and how long it took if it succeeded. A start that is cancelled is not counted."""
        began = self._clock()
        try:
            yield
        except Exception:
            self.of(served_entity).starts.labels("failed").inc()
            raise
        of = self.of(served_entity)
        of.starts.labels("ready").inc()
        of.start_seconds.observe(self._clock() - began)

    def last_minute(self) -> Counts:
        """The requests that were answered in the last 60 seconds."""
        self._forget()
        counts = [counts for _, counts in self._seconds]
        return Counts(*(sum(getattr(c, name) for c in counts) for name in ("all", "client_errors", "server_errors")))

    def _count(self, status: int) -> None:
        self._forget()
        second = int(self._clock())
        counts = self._seconds.pop()[1] if self._seconds and self._seconds[-1][0] == second else Counts()
        self._seconds.append((second, counts.and_one(status)))

    def _forget(self) -> None:
        while self._seconds and self._seconds[0][0] <= self._clock() - _MINUTE:
            self._seconds.popleft()
