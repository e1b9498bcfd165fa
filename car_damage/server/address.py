"""Address and token of the local endpoint server, for its clients."""

from pathlib import Path
from urllib.parse import urlsplit

from car_damage.errors import Terminal, Unavailable
from car_damage.machine import LOOPBACK

_SHORTEST = 32
"""Characters of a token that nobody can guess: 192 random bits in base64."""


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
        Terminal: the token is not whole. An empty one would let everybody in.
    """
    path = folder(home) / "token"
    try:
        text = path.read_text().strip()
    except FileNotFoundError as error:
        raise Unavailable(f"there is no token at {path}; start the endpoint server with `car-damage serve`") from error
    if len(text) < _SHORTEST:
        raise Terminal(
            f"the token in {path} has {len(text)} characters, and {_SHORTEST} is the least: "
            "remove the file, and start the endpoint server again, which writes another one"
        )
    return text
