"""What the endpoint server keeps on disk, below <home>/endpoint: its token, its endpoints, copies of the models that
it serves, its logs, and a lock.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from car_damage.errors import Terminal
from car_damage.server.address import folder


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
        """Replace the file whole: after a crash it is the old one or the new one.

        Raises:
            Terminal: the disk does not take it; the file is the old one.
        """
        draft = self._endpoints.with_suffix(".draft")
        try:
            with draft.open("w") as file:
                json.dump({"endpoints": endpoints}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._endpoints)
        except OSError as error:
            raise Terminal(f"{self._endpoints} cannot be written: {error}; make room or give access, and ask again") from error

    def log(self, endpoint: str, config_version: int) -> Path:
        """Where a deployment's processes write what they have to say."""
        return self.folder / "logs" / f"{endpoint}.{config_version}.log"

    def model(self, endpoint: str, config_version: int) -> Path:
        """Where a deployment's copy of its version lies."""
        return self.folder / "models" / f"{endpoint}.{config_version}"

    def sweep(self, needed: Iterable[tuple[str, int]]) -> None:
        """Remove every copy of a model, whole or partial, but those of these endpoints' config versions."""
        names = {self.model(*deployment).name for deployment in needed}
        for copy in (self.folder / "models").glob("*"):
            # A partial one has a third part; the name of an endpoint has no dot in it.
            if ".".join(copy.name.split(".")[:2]) not in names:
                shutil.rmtree(copy, ignore_errors=True)

    def forget(self, endpoint: str) -> None:
        """Remove an endpoint's logs, so that another one of its name does not go on with them."""
        for log in (self.folder / "logs").glob(f"{endpoint}.*"):
            log.unlink(missing_ok=True)
