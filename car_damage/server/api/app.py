"""The HTTP side of the local endpoint server: the Databricks serving REST API, in front of the models' own processes.

It checks the token, the size and the queue, and passes photos on unread. It imports neither MLflow nor TensorFlow.
"""

import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from car_damage.errors import Terminal
from car_damage.server.api import management, observe, page, query
from car_damage.server.api.openapi import DescribedApi
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.settings import Settings

_WITHOUT_TOKEN = frozenset({"/health", "/openapi.json", "/.well-known/databricks-config"}) | page.PATHS
"""Paths that need no token."""

_log = logging.getLogger(__name__)


def application(settings: Settings, endpoints: Endpoints, token: str) -> Any:
    """The ASGI application. Its lifespan restores the endpoints and stops them."""
    return _TokenRequired(api(settings, endpoints), token)


def api(settings: Settings, endpoints: Endpoints) -> DescribedApi:
    """The application's routes, without the check of the token."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        endpoints.restore()
        yield
        await endpoints.close()

    app = DescribedApi(settings, lifespan=lifespan)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(Terminal, _disk_error)
    app.add_exception_handler(HTTPException, _no_such_api)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    observe.add(app, endpoints)
    management.add(app, endpoints, settings.serving.request_timeout)
    query.add(app, endpoints, settings.serving)
    page.add(app, settings.serving.max_request_bytes)
    return app


def _response(error: ApiError) -> Response:
    return JSONResponse({"error_code": error.kind.code, "message": error.message}, error.kind.status, error.headers)


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    return _response(error)


async def _disk_error(_: Request, error: Exception) -> Response:
    _log.error("%s", error)
    return _response(ApiError(ErrorKind.DISK, str(error)))


async def _no_such_api(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    message = f"the server has no API {request.method} {request.url.path}"
    return JSONResponse({"error_code": "ENDPOINT_NOT_FOUND", "message": message}, error.status_code)


async def _disconnected(_: Request, __: Exception) -> Response:
    """The client disconnected before its request was complete. That is no error of the server, and nobody reads the response."""
    return Response(status_code=400)


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _TokenRequired:
    """Checks the token in front of every path, unknown ones included, so that no route can miss the check."""

    def __init__(self, app: FastAPI, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._problem(scope) if scope["type"] == "http" and scope["path"] not in _WITHOUT_TOKEN else None
        await (_response(error) if error else self._app)(scope, receive, send)

    def _problem(self, scope: Scope) -> ApiError | None:
        given = dict(scope["headers"]).get(b"authorization")
        if given is None:
            return ApiError(
                ErrorKind.NO_TOKEN, "the request has no token: send the header Authorization: Bearer TOKEN; it is in <home>/endpoint/token"
            )
        if not hmac.compare_digest(given, self._expected):
            return ApiError(ErrorKind.WRONG_TOKEN, "invalid access token: it is incomplete, or belongs to another home folder's server")
        return None
