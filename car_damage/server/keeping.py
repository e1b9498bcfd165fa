"""Keeps photos whose answers ask for a person: beside the answer, and never in its way.

The route offers each request with its answer. Whether an answer asks for a person is looked up in its bytes; everything else is done by the
thread of a backlog.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from car_damage.data.answers import bodies
from car_damage.data.people.desk import Desk
from car_damage.data.people.waiting import Answer
from car_damage.photo.columns import may_be, probabilities
from car_damage.server.backlog import Backlog

_ASKS = (b'"review": true', b'"review":true')
QUEUED = 64 << 20
"""Bytes of requests and answers that may wait."""


class _Offer(NamedTuple):
    request: bytes
    answer: bytes
    served_by: str


class Keeper:
    """Keeps photos on a desk.

    Args:
        desk: where they are kept.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._backlog: Backlog[_Offer] = Backlog("kept photos", self._keep, desk.drop, most=QUEUED, at_once=1)
        self.settle = self._backlog.settle

    def offer(self, request: bytes, answer: bytes, served_by: str) -> None:
        """Keep the photos of a request whose answers ask for a person. Returns at once."""
        if any(ask in answer for ask in _ASKS):
            self._backlog.put(_Offer(request, answer, served_by), len(request) + len(answer))

    def _keep(self, offers: Sequence[_Offer]) -> None:
        for offer in offers:
            for photo, given in asking(*offer, self._desk.now().isoformat()):
                self._desk.keep(photo, given)


def asking(request: bytes, answer: bytes, served_by: str, now: str) -> Iterator[tuple[bytes, Answer]]:
    """The photos of a request whose answers ask for a person, with these answers.

    Args:
        request: a body in JSON; any other form of it is a ValueError.
        answer: the body of the response.
        served_by: the served entity that answered.
        now: in ISO 8601.

    Raises:
        ValueError: the request is not JSON.
        KeyError, TypeError, AttributeError: it has another form than the endpoint takes.
    """
    for photo, row in zip(bodies.photos(request), json.loads(answer)["predictions"], strict=True):
        if row.get("review") is True and photo is not None:
            yield photo, _answer(row, served_by, now)


def _answer(row: dict[str, Any], served_by: str, now: str) -> Answer:
    return Answer(str(row["label"]), probabilities(row), may_be(row) or (), served_by, now)
