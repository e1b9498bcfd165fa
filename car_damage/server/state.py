"""What the endpoint server keeps on disk, below <home>/endpoint: its token, its endpoints, its logs, and a lock.

Imports nothing heavy: clients of the local server read the token from here.
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from car_damage.errors import Terminal, Unavailable


def folder(home: Path) -> Path:
    """The server's folder in the home folder."""
    return home / "endpoint"


def token(home: Path) -> str:
    """The token that the local server asks for.

    Raises:
        Unavailable: the server was never started with this home folder.
    """
    try:
        return (folder(home) / "token").read_text().strip()
    except FileNotFoundError as error:
        raise Unavailable(f"there is no token at {folder(home) / 'token'}; start the endpoint server with `car-damage serve`") from error


class State:
    """The files of one running server."""

    def __init__(self, home: Path) -> None:
        self.folder = folder(home)
        self._endpoints = self.folder / "endpoints.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone, until this process ends at the latest.

        Raises:
            Terminal: another server holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise Terminal(
                    f"an endpoint server (process {lock.read().strip()}) already serves from {self.folder}; stop it, or set CAR_DAMAGE_HOME"
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def token(self) -> str:
        """The token; made at the first start, readable by its owner only."""
        path = self.folder / "token"
        with contextlib.suppress(FileExistsError), os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        return path.read_text().strip()

    def read(self) -> list[dict[str, Any]]:
        """The endpoints as they were last written."""
        try:
            return list(json.loads(self._endpoints.read_text())["endpoints"])
        except FileNotFoundError:
            return []
        except (ValueError, KeyError) as error:
            raise Terminal(f"{self._endpoints} cannot be read: {error}; mend it, or remove it to start with no endpoints") from error

    def write(self, endpoints: list[dict[str, Any]]) -> None:
        """Replace the file whole: after a crash it is the old one or the new one."""
        draft = self._endpoints.with_suffix(".draft")
        with draft.open("w") as file:
            json.dump({"endpoints": endpoints}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._endpoints)

    def log(self, endpoint: str, config_version: int) -> Path:
        """Where a deployment's process writes what it has to say."""
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        return logs / f"{endpoint}.{config_version}.log"
