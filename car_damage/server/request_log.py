"""Notes each request when it has ended, in small files, whose rows stages take into the table of the request log.

The server needs neither the table's engine nor its lock, so it works the same beside delta-rs and beside Spark: a file is written whole and
once, and its rows have the key of the table.
"""

import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from car_damage.data.answers.inference_log import ANSWERED, REFUSED, Request, to_file
from car_damage.ports import Files, version_of
from car_damage.server.backlog import Backlog
from car_damage.server.hosting.measures import Outcome
from car_damage.settings import Monitoring

_OVERHEAD = 1 << 10
"""Bytes that a request takes besides its bodies."""
_AT_ONCE = 10_000
"""Requests in one file."""


class RequestLog:
    """The request log of a server.

    Args:
        files: writes.
        settings: names the folder and the limits.
    """

    def __init__(self, files: Files, settings: Monitoring) -> None:
        self._files, self._folder = files, settings.log_folder
        self._backlog: Backlog[Request] = Backlog(
            "request log", self._write, self._drop, most=settings.log_buffer, at_once=_AT_ONCE, every=settings.log_seconds
        )
        self.dropped = 0
        """Requests that were not noted, because there was no room or the disk refused them."""
        self.settle = self._backlog.settle

    def put(self, endpoint: str, outcome: Outcome) -> None:
        """Note a request that has ended. Returns at once."""
        asked = outcome.request if outcome.status == REFUSED else b""
        response = outcome.response if outcome.status in {ANSWERED, REFUSED} else b""
        request = Request(
            # The time in front, so that ids are in the order of time.
            request_id=f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(8)}",
            answered=datetime.now(UTC),
            endpoint=endpoint,
            model_version=version_of(outcome.served_by),
            status=outcome.status,
            milliseconds=1000 * outcome.seconds,
            response=response,
            asked=asked,
        )
        self._backlog.put(request, len(asked) + len(response) + _OVERHEAD)

    def _write(self, requests: Sequence[Request]) -> None:
        name = f"{requests[0].answered:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(8)}.parquet"
        self._files.write_once(self._folder + name, to_file(requests))

    def _drop(self, requests: int) -> None:
        self.dropped += requests
