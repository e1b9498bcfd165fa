"""One model in a process of its own, reached through a unix socket.

The process runs MLflow's scoring application (see car_damage.model_host). Requests and answers pass through as they
are. HTTP/1.1 is spoken by hand over kept connections, to an application whose answers always carry their length, so
the server needs no HTTP client of its own.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from car_damage.errors import ModelRefused, Unavailable
from car_damage.model_process import HOST, scrubbed

_LAST_WORDS = 300
_GRACE = 10.0
"""Seconds that a process gets to end by itself."""


@dataclass(frozen=True)
class Scored:
    """What the scoring application answered."""

    status: int
    content_type: str
    body: bytes


class ModelServer:
    """A model's process."""

    def __init__(self, uri: str, socket: Path, log: Path, environment: Mapping[str, str]) -> None:
        self._uri, self._socket, self._log, self._environment = uri, socket, log, environment
        self._process: asyncio.subprocess.Process | None = None
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.built = 0
        """Bytes of the log that were written before the model was ready."""

    async def start(self, timeout: float) -> None:
        """Start the process and wait until the model has answered its own example.

        Raises:
            ModelRefused: it ended, or was not ready in time.
        """
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(HOST),
                "serve",
                self._uri,
                str(self._socket),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=scrubbed(os.environ) | dict(self._environment),
                start_new_session=True,
            )
        assert self._process.stdout is not None  # noqa: S101 - for the type checker: a pipe was asked for
        try:
            async with asyncio.timeout(timeout):
                ready = await self._process.stdout.readline()
        except TimeoutError:
            await self.stop()
            raise ModelRefused(f"{self._uri} was not ready after {timeout:g} seconds") from None
        except asyncio.CancelledError:
            await self.stop()
            raise
        if ready.strip() != b"ready":
            code = await self._process.wait()
            raise ModelRefused(f"{self._uri} did not start (exit {code}): {self._last_words()}")
        self.built = self._log.stat().st_size

    async def ended(self) -> int:
        """Wait until the process ends by itself; its exit code."""
        assert self._process is not None  # noqa: S101 - for the type checker: called after start
        return await self._process.wait()

    async def score(self, body: bytes, content_type: str) -> Scored:
        """Pass one request on.

        Raises:
            Unavailable: the process went away underneath.
        """
        self._open += 1
        self._quiet.clear()
        try:
            return await self._exchange(body, content_type)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Unavailable(f"the process of {self._uri} went away during the request") from error
        finally:
            self._open -= 1
            if not self._open:
                self._quiet.set()

    async def finish(self, timeout: float) -> None:
        """Let the requests in flight end, then stop."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._quiet.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End the process, by force when it does not end by itself."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _exchange(self, body: bytes, content_type: str) -> Scored:
        reader, writer = await self._connection()
        try:
            head = f"POST /invocations HTTP/1.1\r\nHost: model\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode("latin-1"))
            writer.write(body)
            await writer.drain()
            status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            answer = await reader.readexactly(int(headers["content-length"]))
        except BaseException:
            writer.close()
            raise
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return Scored(int(status.split()[1]), headers.get("content-type", ""), answer)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_unix_connection(str(self._socket))

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][-_LAST_WORDS:] if lines else "it said nothing"
