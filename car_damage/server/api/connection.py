"""A client's connection: what it may take of the server's time and memory, whether it has a token or not.

uvicorn and httptools limit neither the head of a request nor the time that a client takes, so this adds the limits. A client has
a time limit whenever the server waits for it:

    the server waits for            seconds  from
    the head of a request           20       the beginning of the connection, or the first byte of a later head
    the rest of a refused body      20       the response, which does not wait for the body
    the client to read a response   20       the moment when no more of it can be sent
    another request                 75       the end of the response

Where a route reads the body of a request, `car_damage.server.requests.receive` limits its time and size.
"""

import asyncio
from typing import Any, ClassVar, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

KEEP_ALIVE = 75
"""Seconds for which a connection without a request stays open."""
_PATIENCE = 20.0
"""Seconds for all other waits."""
_HEAD = 32 << 10
"""Bytes of a head, and of other parts between the bytes of bodies, such as trailers. nginx takes as many by default."""
_DISCARDED = 64 << 20
"""Bytes of a refused body that are read and dropped, so that the client gets to reading the response."""
_PIPELINED = 16
"""Requests that may wait on their connection for the responses before theirs."""

_Wait = Literal["head", "rest of a body", "reader", "another request"]


def protocol(most: int, patience: float) -> type[asyncio.Protocol]:
    """The protocol for uvicorn.

    Args:
        most: connections that may be open at the same time. One more ends the one for which the server has waited longest; first
            those that have sent no request yet. A connection whose request is being handled is never ended for another one.
        patience: seconds, if less than those above.
    """

    class Limited(_Connection):
        connections_at_most = most
        patience_at_most = min(patience, _PATIENCE)

    return Limited


class _Connection(HttpToolsProtocol):
    connections_at_most: ClassVar[int]
    patience_at_most: ClassVar[float]

    def __init__(self, *of_uvicorn: Any, **named: Any) -> None:
        super().__init__(*of_uvicorn, **named)
        self._part: Literal["", "head", "body"] = ""
        self._loose = 0
        """Bytes since the last ones of a body, or since the end of a head or a body."""
        self._discarded = 0
        self.wait: _Wait | None = None
        self.since = 0.0
        self._end: asyncio.TimerHandle | None = None
        self._refusal = ""
        self._unanswered: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._make_room()
        self._look()

    def data_received(self, data: bytes) -> None:
        self._loose += len(data)
        super().data_received(data)
        if self._loose > _HEAD and not self.transport.is_closing():
            self.send_400_response(f"A head may have {_HEAD} bytes.")
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for request in self._unanswered:  # uvicorn tells the last one only, and the others would write to a closed connection
            request.disconnected = True
            request.message_event.set()
        self._set(None)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part, self._discarded = "head", 0

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _HEAD:
            self._refuse(f"A head may have {_HEAD} bytes.")
        if len(self.pipeline) >= _PIPELINED:
            self._refuse(f"{_PIPELINED} requests may wait on one connection.")
        super().on_headers_complete()
        self._unanswered = [*(request for request in self._unanswered if not request.response_complete), self.cycle]
        self._part, self._loose = "body", 0

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._loose = 0
        self._discarded += len(body) if self.cycle.response_complete else 0
        if self._discarded > _DISCARDED:
            self._refuse("The body is too large.")

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part, self._loose = "", 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(self._refusal or msg)

    def _refuse(self, why: str) -> None:
        """Stop the parser. uvicorn then calls `send_400_response`."""
        self._refusal = why
        raise ValueError(why)

    def _look(self) -> None:
        if self.flow.write_paused:
            self._set("reader")
        elif self.cycle is not None and not self.cycle.response_complete:
            self._set(None)
        elif self._part == "body":
            self._set("rest of a body")
        elif self._part == "head" or self.cycle is None or self._loose:
            self._set("head")
        else:
            self._set("another request")

    def _set(self, wait: _Wait | None) -> None:
        if wait == self.wait:
            return
        if self._end is not None:
            self._end.cancel()
            self._end = None
        self.wait, self.since = wait, self.loop.time()
        if wait is not None:
            seconds = KEEP_ALIVE if wait == "another request" else self.patience_at_most
            # Not `close`, which waits until the client has read everything.
            self._end = self.loop.call_later(seconds, self.transport.abort)

    def _make_room(self) -> None:
        if len(self.connections) <= self.connections_at_most:
            return
        there = [one for one in self.connections if isinstance(one, _Connection) and not one.transport.is_closing()]
        if len(there) > self.connections_at_most:
            waiting = (one for one in there if one.wait is not None)
            min(waiting, key=lambda one: (one.cycle is not None, one.since), default=self).transport.abort()
