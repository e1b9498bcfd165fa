"""Address and token of the local endpoint server, for its clients."""

from pathlib import Path
from urllib.parse import urlsplit

from car_damage.errors import Unavailable
from car_damage.machine import LOOPBACK, secret


def is_local(host: str | None) -> bool:
    """Whether `serving.host` is the endpoint server on this machine, and not a workspace."""
    parts = urlsplit(host or "")
    return parts.scheme == "http" and parts.hostname in LOOPBACK


def folder(home: Path) -> Path:
    """The server's folder in the home folder."""
    return home / "endpoint"


def token(home: Path) -> str:
    """The token of the local server.

    Raises:
        Unavailable: the server was never started with this home folder.
        Terminal: the token is not whole.
    """
    path = folder(home) / "token"
    try:
        return secret(path)
    except FileNotFoundError as error:
        raise Unavailable(f"there is no token at {path}; start the endpoint server with `car-damage serve`") from error
