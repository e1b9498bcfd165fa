"""Files of the endpoint server below <home>/endpoint: token, endpoints, copies of the served models, logs and a lock."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from car_damage.errors import Terminal
from car_damage.machine import secret, write_whole
from car_damage.server.address import folder

FORMAT = 1
"""Of endpoints.json. Raise it when an earlier version could not read what this one writes."""
_OLD_LOGS = 20
"""Logs of earlier deployments that stay."""
_FIELDS = ("name", "facts", "active", "pending", "active_version", "update_state")


class State:
    """Files of one running server."""

    def __init__(self, home: Path) -> None:
        self.folder = folder(home)
        self._endpoints = self.folder / "endpoints.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for this server. The lock ends with this process at the latest.

        Raises:
            Terminal: another server has the lock.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise Terminal(
                    f"another endpoint server (process {lock.read().strip()}) uses {self.folder}; stop it, or set CAR_DAMAGE_HOME"
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def token(self) -> str:
        """The token. It is created at the first start, under the lock.

        Raises:
            Terminal: see `machine.secret`.
        """
        return secret(self.folder / "token", create=True)

    def read(self) -> list[dict[str, Any]]:
        """Read the endpoints that were saved last. Files of earlier versions name no format.

        Raises:
            Terminal: the file is damaged, or of a later version.
        """
        try:
            document = json.loads(self._endpoints.read_text())
            if (form := document.get("format", FORMAT)) != FORMAT:
                raise Terminal(f"{self._endpoints} has the format {form}, and this version reads {FORMAT}: use the version that wrote it")
            return [{name: one[name] for name in _FIELDS} for one in document["endpoints"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Terminal(f"{self._endpoints} cannot be read: {error}; repair it, or remove it to start without endpoints") from error

    def write(self, endpoints: list[dict[str, Any]]) -> None:
        """Save the endpoints. The file is replaced as a whole, so after a crash it is the old one or the new one.

        Raises:
            Terminal: the file cannot be written; the old one is still there.
        """
        try:
            write_whole(self._endpoints, json.dumps({"format": FORMAT, "endpoints": endpoints}, indent=1))
        except OSError as error:
            raise Terminal(f"{self._endpoints} cannot be written: {error}; free disk space or give access, then try again") from error

    def log(self, endpoint: str, config_version: int) -> Path:
        """The log of a deployment's processes."""
        return self.folder / "logs" / f"{endpoint}.{config_version}.log"

    def model(self, endpoint: str, config_version: int) -> Path:
        """The folder of a deployment's copy of its model version."""
        return self.folder / "models" / f"{endpoint}.{config_version}"

    def sweep(self, needed: Iterable[tuple[str, int]]) -> None:
        """Remove all copies of models, complete or partial, except those of these endpoints and config versions, and old logs."""
        names = {self.model(*deployment).name for deployment in needed}
        for copy in _others(self.folder / "models", names):
            shutil.rmtree(copy, ignore_errors=True)
        for log in sorted(_others(self.folder / "logs", names), key=lambda log: log.stat().st_mtime)[:-_OLD_LOGS]:
            log.unlink(missing_ok=True)

    def delete_logs(self, endpoint: str) -> None:
        """Remove an endpoint's logs, so that a later endpoint of the same name starts with empty ones."""
        for log in (self.folder / "logs").glob(f"{endpoint}.*"):
            log.unlink(missing_ok=True)


def _others(folder: Path, names: set[str]) -> list[Path]:
    """What a folder has of other deployments."""
    # The name of a partial copy has a second dot. The name of an endpoint has none.
    return [path for path in folder.glob("*") if ".".join(path.name.split(".")[:2]) not in names]
