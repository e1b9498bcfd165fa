"""`car-damage serve`: run the local endpoint server until it is stopped."""

import contextlib
import resource
import socket
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from car_damage.data.people.desk import Desk
from car_damage.errors import SettingsError
from car_damage.ports import Clock, Files
from car_damage.server.address import is_local
from car_damage.server.request_log import RequestLog
from car_damage.server.state import State
from car_damage.settings import Settings

_GRACE = 15
"""Seconds that requests in flight may still take when the server stops."""
SPARE = 256
"""Connections without a request that the endpoint works on or keeps in its queue."""
_FILES = 128
"""Files besides connections: those of the models' processes, logs and libraries."""


def serve(settings: Settings, files: Files, clock: Clock, say: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT, then finish requests in flight and stop every model.

    Raises:
        SettingsError: serving.host is not on this machine, or its port is in use.
        Terminal: another server uses this home folder, or one of its files cannot be used.
    """
    import uvicorn

    from car_damage.server.api import connection
    from car_damage.server.api.app import application
    from car_damage.server.api.page import link
    from car_damage.server.hosting.endpoints import Endpoints
    from car_damage.server.hosting.model_server import AT_ONCE

    state = State(settings.home)
    with state.locked(), _listening(settings.serving.host) as listening:
        token = state.token()
        state.read()  # an error here is one line; when the application restores the endpoints, it would be a traceback
        log = RequestLog(files, settings.monitoring) if settings.monitoring.log_requests else None
        app = application(settings, Endpoints(settings, state), Desk(files, settings.answers, clock), log, token)
        most = settings.serving.max_queue + AT_ONCE + SPARE
        _allow_files(most + _FILES)
        config = uvicorn.Config(
            app,
            http=connection.protocol(most, settings.serving.request_timeout),
            ws="none",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=connection.KEEP_ALIVE,
        )
        say(f"endpoint server: {settings.serving.host}, token: {state.folder / 'token'}; Ctrl-C stops it")
        # Only the owner can read the token's file, but others may read a log that this line goes to.
        say(f"page: {link(str(settings.serving.host), token if sys.stdout.isatty() else None)}")
        # After it has stopped, uvicorn raises the signal once more.
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str | None) -> socket.socket:
    """A socket on loopback, bound before anything starts."""
    if not is_local(host):
        raise SettingsError(
            f"serving.host is {host}; the endpoint server runs on this machine only; set it to a URL such as http://127.0.0.1:5055"
        )
    port = urlsplit(host or "").port or 80
    # Without IPPROTO_TCP asyncio leaves Nagle's algorithm on, which delays every response by 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"port {port} of serving.host cannot be used: {error.strerror}; "
            "stop the program that uses it, or change serving.host (CAR_DAMAGE_SERVING__HOST)"
        ) from error
    return listening


def _allow_files(number: int) -> None:
    """Let this process open so many files, as far as the system lets it: macOS begins with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number if hard == resource.RLIM_INFINITY else min(number, hard), hard))
