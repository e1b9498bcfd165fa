"""Records the calls that a block of code makes to a workspace: method, path, status, milliseconds and error text.

databricks-sdk and MLflow call by requests, prefect-databricks by httpx. Recording there means that the calls are those of the service,
whatever makes them. Neither headers nor what was sent is recorded, and of answers only those that are errors.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import requests

from car_damage.adapters.databricks.answers import message_of
from car_damage.machine import LOOPBACK

LONGEST = 20_000
"""Characters of an error's text that are kept."""
ELSEWHERE = "(cloud storage)"
"""The path of a call to another host, such as the storage that an upload or a download is sent to: its address is a credential."""
_CODE = re.compile(r"<Code>(\w+)</Code>")
"""The kind of an error of cloud storage. The rest of the answer repeats keys and tokens of the request."""


@dataclass(frozen=True)
class Call:
    """One call to the workspace."""

    step: str
    """The step that made it."""
    method: str
    path: str
    status: int | None
    """None: there was no answer."""
    milliseconds: int
    error: str = ""


@dataclass
class Calls:
    """The calls so far."""

    step: str = ""
    """The step that makes the next calls."""
    host: str = ""
    """Host and port of the workspace; no call is recorded before it is known."""
    made: list[Call] = field(default_factory=list)

    def add(self, method: str, url: str, start: float, answer: Any = None, error: BaseException | None = None) -> None:
        """Record a call by its answer, of requests or httpx, or by the error that came instead."""
        address = urlsplit(url)
        if not self.host or (address.hostname in LOOPBACK and address.netloc != self.host):
            return  # a server of this machine, such as Prefect's
        path = address.path if address.netloc == self.host else ELSEWHERE
        milliseconds = int((time.monotonic() - start) * 1000)
        status = None if answer is None else int(answer.status_code)
        text = f"{type(error).__name__}: {message_of(error)}" if isinstance(error, Exception) else ""
        if answer is not None and status is not None and status >= 400:
            text = " ".join(_CODE.findall(str(answer.text))) if path == ELSEWHERE else str(answer.text)
        self.made.append(Call(self.step, method, path, status, milliseconds, text[:LONGEST]))


@contextlib.contextmanager
def recorded(calls: Calls) -> Iterator[None]:
    """Record the calls of this process during the block."""
    by_requests, by_httpx = requests.Session.send, httpx.AsyncClient.send

    def send(session: Any, request: Any, **options: Any) -> Any:
        start = time.monotonic()
        try:
            answer = by_requests(session, request, **options)
        except BaseException as error:
            calls.add(request.method, request.url, start, error=error)
            raise
        calls.add(request.method, request.url, start, answer)
        return answer

    async def send_later(client: Any, request: Any, **options: Any) -> Any:
        start = time.monotonic()
        try:
            answer = await by_httpx(client, request, **options)
            if answer.status_code >= 400:
                await answer.aread()
        except BaseException as error:
            calls.add(request.method, str(request.url), start, error=error)
            raise
        calls.add(request.method, str(request.url), start, answer)
        return answer

    replaced: Any = (requests.Session, send), (httpx.AsyncClient, send_later)
    for client, sending in replaced:
        client.send = sending
    try:
        yield
    finally:
        requests.Session.send, httpx.AsyncClient.send = by_requests, by_httpx  # type: ignore[method-assign]
