"""Keeps photos whose answers ask for a person: beside the answer, and never in its way.

The route offers each request with its answer. Whether an answer asks for a person is looked up in its bytes; everything else is done by a
thread that takes offers from a queue. The queue has a limit: what does not fit is dropped and counted.
"""

import base64
import binascii
import json
import logging
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from car_damage.data.desk import Answer, Desk
from car_damage.errors import CarDamageError
from car_damage.photo.columns import probability_column

_ASKS = (b'"review": true', b'"review":true')
QUEUED = 64 << 20
"""Bytes of requests and answers that may wait."""

_log = logging.getLogger(__name__)


class Keeper:
    """Keeps photos on a desk, in a thread that starts with the first offer.

    Args:
        desk: where they are kept.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._offers: deque[tuple[bytes, bytes, str]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def offer(self, request: bytes, answer: bytes, served_by: str) -> None:
        """Keep the photos of a request whose answers ask for a person. Returns at once."""
        if not any(ask in answer for ask in _ASKS):
            return
        with self._changed:
            size = len(request) + len(answer)
            if self._bytes + size > QUEUED:
                self._desk.dropped += 1
                return
            self._offers.append((request, answer, served_by))
            self._bytes += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="kept photos", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, timeout: float) -> bool:
        """Wait until nothing waits any more, for `timeout` seconds at most. Returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._bytes, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._offers))
                request, answer, served_by = self._offers.popleft()
            try:
                for photo, given in asking(request, answer, served_by, self._desk.now().isoformat()):
                    self._desk.keep(photo, given)
            except (ValueError, TypeError, KeyError, CarDamageError) as error:
                self._desk.dropped += 1
                _log.warning("photos that ask for a person were not kept: %s", error)
            with self._changed:
                self._bytes -= len(request) + len(answer)
                self._changed.notify_all()


def asking(request: bytes, answer: bytes, served_by: str, now: str) -> Iterator[tuple[bytes, Answer]]:
    """The photos of a request whose answers ask for a person, with these answers.

    Args:
        request: a body in JSON; any other form of it is a ValueError.
        answer: the body of the response.
        served_by: the served entity that answered.
        now: in ISO 8601.

    Raises:
        ValueError: the request is not JSON, or an image is not base64.
        KeyError, TypeError: it has another form than the endpoint takes.
    """
    images = _images(json.loads(request))
    for image, row in zip(images, json.loads(answer)["predictions"], strict=True):
        if row.get("review") is True:
            try:
                yield base64.b64decode(image, validate=False), _answer(row, served_by, now)
            except binascii.Error as error:
                raise ValueError(str(error)) from error


def _answer(row: dict[str, Any], served_by: str, now: str) -> Answer:
    start = probability_column("")
    probabilities = {name.removeprefix(start): float(value) for name, value in row.items() if name.startswith(start)}
    classes = row.get("classes") or ()
    listed = classes.split(",") if isinstance(classes, str) else classes
    return Answer(str(row["label"]), probabilities, tuple(str(name).strip() for name in listed), served_by, now)


def _images(body: Any) -> list[str]:
    """The photos of a request in base64, in any form that MLflow's scoring takes."""
    if "dataframe_records" in body:
        return [row["image"] for row in body["dataframe_records"]]
    if "dataframe_split" in body:
        at = body["dataframe_split"]["columns"].index("image")
        return [row[at] for row in body["dataframe_split"]["data"]]
    inputs = body["inputs"]
    return list(inputs["image"]) if isinstance(inputs, dict) else [row["image"] if isinstance(row, dict) else row for row in inputs]
