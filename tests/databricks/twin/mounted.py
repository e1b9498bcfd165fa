"""A real server on loopback behind the twin. It starts at the first request and stops with the twin."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.databricks.twin.core import Refused, WithHeaders

STARTS_WITHIN = 180.0
"""Seconds within which a server must give its first answer."""
ANSWERS_WITHIN = 300.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mounted:
    """One server process."""

    def __init__(self, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] = os.environ) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=dict(environment))
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=ANSWERS_WITHIN, trust_env=False)
        deadline = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._client.close()

    def ask(
        self, method: str, path: str, query: Mapping[str, str], body: Any, headers: Mapping[str, str] = {}, *, telling: Sequence[str] = ()
    ) -> Any:
        """Return the server's answer with the headers named in `telling`. Raise its error as Refused."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        answer = self._client.request(method, path, params=dict(query), headers=dict(headers), **content)  # type: ignore[arg-type]
        given = answer.json() if answer.content else {}
        if answer.is_success:
            told = {name: answer.headers[name] for name in telling if name in answer.headers}
            return WithHeaders(given, told) if told else given
        raise Refused(answer.status_code, given.get("error_code", "INTERNAL_ERROR"), given.get("message", ""))

    def _answers(self) -> bool:
        try:
            return self._client.get("/health").is_success
        except httpx.HTTPError:
            return False
