"""One model in a process of its own, reached through a unix socket.

The process runs MLflow's scoring function. Requests and responses pass through unread, over connections that are reused;
car_damage.model.served.host describes the header bytes in front of each.
"""

import asyncio
import contextlib
import math
import os
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from car_damage.errors import ModelRefused, Unavailable
from car_damage.machine import shorten
from car_damage.model.served.environment import scrubbed
from car_damage.model.served.process import HOST
from car_damage.server.hosting.guard import Guard

AT_ONCE = 16
"""Requests that the process gets at once: two calls of the model, each for up to eight requests that it combines."""
_LAST_LINE = 300
"""Characters of a log's last line that an error quotes."""
_GRACE = 10.0
"""Seconds until a process that does not end by itself is killed."""
_PROBED_EVERY = 10.0
_LONGEST_SILENCE = 30.0
"""Seconds between two probes of a process, and without an answer to one, after which the process is held to hang. The answer needs no
model: a process that is busy with photos gives it within a second."""
_PING = 2**32 - 1
"""As in car_damage.model.served.scoring, which is not imported here."""


@dataclass(frozen=True)
class ModelResponse:
    """HTTP response of the scoring function."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class DeploymentFiles:
    """Files of a deployment on this machine's disk."""

    model: Path
    """A copy of the version's files: complete, or absent."""
    log: Path
    """What its processes print, one after the other."""


@dataclass(frozen=True)
class ModelLimits:
    """What a model may take."""

    seconds: float
    """For one request, rounded up."""
    memory: int
    """Bytes. A process that takes more is killed."""


class ModelServer:
    """A model's process.

    If the version's files are missing, another process fetches them first. It gets this server's whole environment, because
    MLflow finds there the credentials of the registry and of the object store. The model's process runs code that came with
    the model, so it gets no credentials. It needs neither registry nor network to start again.

    Args:
        uri: URI of the model version.
        socket: unix socket of the process; its path has at most 107 characters.
        files: files of the deployment.
        registry: environment variables that tell MLflow where the registry is.
        limits: what the model may take.
        variables: environment variables of the model's process.
    """

    def __init__(  # noqa: PLR0917 - what runs, where, and with what
        self,
        uri: str,
        socket: Path,
        files: DeploymentFiles,
        registry: Mapping[str, str],
        limits: ModelLimits,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._variables = variables
        self._uri, self._socket, self._files, self._registry, self._limits = uri, socket, files, registry, limits
        self._process: asyncio.subprocess.Process | None = None
        self._guard: Guard | None = None
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.began = self.built = 0
        """Sizes of the log in bytes when this process started and when its model was ready; 0 before that."""

    async def start(self, timeout: float) -> None:
        """Fetch the model, start the process and wait until the model has answered its own example.

        Raises:
            ModelRefused: the model could not be fetched or started, its process ended, or it was not ready after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                self._open_log()
                await self._fetch()
                await self._await_ready()
            self.built = self._files.log.stat().st_size
        except TimeoutError:  # a subclass of OSError, so it is caught first
            await self.stop()
            raise ModelRefused(f"{self._uri} was not ready after {timeout:g} seconds") from None
        except OSError as error:
            await self.stop()
            raise ModelRefused(f"{self._uri} could not be started with its files in {self._files.model}: {error}") from error
        except BaseException:
            await self.stop()
            raise

    @property
    def pid(self) -> int | None:
        """The id of the process, while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def killed_because(self) -> str:
        """Why this server has killed the process; empty if it has not."""
        return self._guard.killed_because if self._guard is not None else ""

    async def ended(self) -> int:
        """Wait until the process ends by itself, and return its exit code."""
        assert self._process is not None  # noqa: S101 - for the type checker: called after start
        return await self._process.wait()

    async def score(self, body: bytes, content_type: str) -> ModelResponse:
        """Pass one request to the model.

        Raises:
            Unavailable: the process ended during the request.
        """
        self._open += 1
        self._quiet.clear()
        try:
            kind = content_type.encode("latin-1")
            return await self._exchange(struct.pack(">II", len(kind), len(body)) + kind, body)
        except (OSError, asyncio.IncompleteReadError) as error:
            because = f": {self.killed_because}" if self.killed_because else ""
            raise Unavailable(f"the process of {self._uri} ended during the request{because}") from error
        finally:
            self._open -= 1
            if not self._open:
                self._quiet.set()

    async def hang(self) -> None:
        """Wait until the process does not answer a probe, which the model does not see: it hangs, or has ended."""
        while True:
            await asyncio.sleep(_PROBED_EVERY)
            try:
                async with asyncio.timeout(_LONGEST_SILENCE):
                    await self._exchange(struct.pack(">II", _PING, 0))
            except (OSError, asyncio.IncompleteReadError):  # a TimeoutError is one
                return

    async def finish(self, timeout: float) -> None:
        """Wait until the requests in flight have ended, then stop."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._quiet.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Stop the process, if it still runs, and remove its socket. A process that does not end by itself is killed."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
        if self._process is not None and self._process.returncode is None:
            await self._end(self._process)
        self._socket.unlink(missing_ok=True)

    @staticmethod
    async def _end(process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _open_log(self) -> None:
        log = self._files.log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._files.model.parent.mkdir(parents=True, exist_ok=True)
        shorten(log)
        with log.open("ab") as file:
            self.began = file.tell()

    async def _fetch(self) -> None:
        if self._files.model.exists():
            return
        environment = os.environ | scrubbed(os.environ) | dict(self._registry)
        process = await self._spawn("fetch", self._uri, str(self._files.model), environment=environment)
        if code := await process.wait():
            raise ModelRefused(f"{self._uri} could not be fetched (exit {code}): {self._last_line()}")

    async def _await_ready(self) -> None:
        limit = {"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": str(math.ceil(self._limits.seconds))}
        process = await self._spawn(
            "serve", str(self._files.model), str(self._socket), environment=scrubbed(os.environ) | limit | dict(self._variables)
        )
        assert process.stdout is not None  # noqa: S101 - for the type checker: a pipe was asked for
        if (await process.stdout.readline()).strip() != b"ready":
            raise ModelRefused(f"{self._uri} did not start (exit {await process.wait()}): {self._last_line()}")

    async def _spawn(self, *arguments: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        with self._files.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(HOST),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self._guard = Guard(self._process, self._limits.memory, self._files.log, lambda: self.built or self.began)
        return self._process

    async def _exchange(self, head: bytes, body: bytes = b"") -> ModelResponse:
        reader, writer = await self._connection()
        try:
            writer.write(head)
            writer.write(body)
            await writer.drain()
            status, length, size = struct.unpack(">HII", await reader.readexactly(10))
            kind, answer = await reader.readexactly(length), await reader.readexactly(size)
        except BaseException:
            # Not `close`: what is not sent yet would be kept until the process takes it, and one that hangs never does.
            writer.transport.abort()
            raise
        self._idle.append((reader, writer))
        return ModelResponse(status, kind.decode("latin-1"), answer)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_unix_connection(str(self._socket))

    def _last_line(self) -> str:
        if self.killed_because:
            return self.killed_because
        lines = self._files.log.read_bytes()[self.began :].decode(errors="replace").strip().splitlines()
        return lines[-1][-_LAST_LINE:] if lines else "it printed nothing"
