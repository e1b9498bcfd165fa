"""The local endpoint server's HTTP side: the Databricks serving REST API, in front of the models' own processes.

It checks the token, the size and the queue, and passes requests on as they are: it imports neither MLflow nor
TensorFlow, and never looks into a photo.
"""

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from car_damage.errors import Terminal
from car_damage.server.api import describe, openapi, page
from car_damage.server.errors import ApiError
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.server.hosting.model_server import Scored
from car_damage.server.metrics.exposition import Metrics
from car_damage.server.requests import Config, Create, parse
from car_damage.settings import Settings

_API = "/api/2.0/serving-endpoints"
_OPEN = frozenset({"/health", "/openapi.json", "/.well-known/databricks-config"}) | page.PATHS
"""Paths that need no token."""
_CONFIG = 1 << 20
"""Bytes that a request of the management API may have."""
_DISCARDED = 64 << 20
"""Bytes of a request that is too large which are read and dropped, so that its sender gets to read the answer."""
_MESSAGE = 2000
"""Characters of a model's error message that are passed on: MLflow repeats the whole input in some."""

_log = logging.getLogger(__name__)


def application(settings: Settings, endpoints: Endpoints, token: str) -> Any:
    """The ASGI application. Its lifespan restores the endpoints and stops them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        endpoints.restore()
        yield
        await endpoints.close()

    app = FastAPI(title="car-damage endpoint server", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_exception_handler(ApiError, _refuse)
    app.add_exception_handler(Terminal, _fail)
    app.add_exception_handler(HTTPException, _no_such_api)
    app.add_exception_handler(ClientDisconnect, _hung_up)
    _add_open(app, settings, endpoints)
    _add_management(app, endpoints, settings.serving.request_timeout)
    _add_query(app, settings, endpoints)
    _add_metrics(app, endpoints)
    page.add(app, settings.serving.max_request_bytes)
    return _TokenRequired(app, token)


def _add_open(app: FastAPI, settings: Settings, endpoints: Endpoints) -> None:
    described = openapi.document(settings)

    @app.get("/openapi.json")
    async def description() -> dict[str, Any]:
        return described

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "endpoints": {endpoint.name: describe.readiness(endpoint) for endpoint in endpoints}}

    @app.get("/.well-known/databricks-config")
    async def discovery() -> dict[str, str]:
        # databricks-sdk asks before anything else, and waits long for an answer. No OAuth here.
        return {"oidc_endpoint": ""}


def _add_management(app: FastAPI, endpoints: Endpoints, patience: float) -> None:
    @app.post(_API)
    async def create(request: Request) -> dict[str, Any]:
        return describe.endpoint(endpoints.create(parse(Create, await _body(request, _CONFIG, patience))))

    @app.get(_API)
    async def listing() -> dict[str, Any]:
        return {"endpoints": [describe.summary(endpoint) for endpoint in endpoints]}

    @app.get(_API + "/{name}")
    async def get(name: str) -> dict[str, Any]:
        return describe.endpoint(endpoints[name])

    @app.put(_API + "/{name}/config")
    async def update(name: str, request: Request) -> dict[str, Any]:
        return describe.endpoint(endpoints.update(name, parse(Config, await _body(request, _CONFIG, patience))))

    @app.delete(_API + "/{name}")
    async def delete(name: str) -> dict[str, Any]:
        await endpoints.delete(name)
        return {}

    @app.get(_API + "/{name}/served-models/{served}/build-logs")
    async def build_logs(name: str, served: str) -> dict[str, str]:
        return {"logs": endpoints.build_log(name, served)}

    @app.get(_API + "/{name}/served-models/{served}/logs")
    async def logs(name: str, served: str) -> dict[str, str]:
        return {"logs": endpoints.server_log(name, served)}


def _add_query(app: FastAPI, settings: Settings, endpoints: Endpoints) -> None:
    serving = settings.serving

    @app.post("/serving-endpoints/{name}/invocations")
    async def invocations(name: str, request: Request) -> Response:
        endpoint = endpoints[name]
        content_type = request.headers.get("content-type")
        with endpoint.measures.request(endpoint.served_entity) as outcome, endpoint.queue.place(serving.max_queue):
            body = await _body(request, serving.max_request_bytes, serving.request_timeout)
            if content_type is None:
                raise ApiError(400, "BAD_REQUEST", "the request has no Content-Type; a photo is sent as application/json")
            answered = await endpoint.score(body, content_type)
            outcome.is_answered(answered.served_by, answered.scored.status)
        return _answer(answered.scored, answered.served_by)


def _add_metrics(app: FastAPI, endpoints: Endpoints) -> None:
    metrics = Metrics(endpoints)

    @app.get(_API + "/{name}/metrics")
    async def export(name: str) -> Response:
        return Response(metrics.endpoint(endpoints[name]), media_type=CONTENT_TYPE_LATEST)

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(metrics.server(), media_type=CONTENT_TYPE_LATEST)


def _answer(scored: Scored, served_by: str) -> Response:
    headers = {"served-model-name": served_by}
    if scored.status == 200:
        return Response(scored.body, media_type=scored.content_type, headers=headers)
    try:
        error = json.loads(scored.body)
        code, message = str(error["error_code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        code, message = ("BAD_REQUEST" if scored.status < 500 else "INTERNAL_ERROR"), scored.body.decode(errors="replace")
    if message.startswith("Failed to predict data"):  # MLflow repeats the caller's data in front of what was wrong with it
        message = message.rpartition("\nError: ")[2]
    if scored.status == 504:
        message += "; send fewer photos at once"
    # A stack trace that MLflow adds stays here: it says nothing to a caller, and much to an attacker.
    return JSONResponse({"error_code": code, "message": message[:_MESSAGE]}, scored.status, headers)


async def _body(request: Request, limit: int, timeout: float) -> bytes:
    """The request's body.

    Raises:
        ApiError: 413 when it is longer than `limit` bytes, of which no more is ever kept; 408 when it is not there after
            `timeout` seconds: whoever stops in the middle must not hold a place for ever.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _read(request, limit)
    except TimeoutError as error:
        raise ApiError(408, "REQUEST_TIMEOUT", f"the request's body was not there after {timeout:g} seconds; send it again") from error


async def _read(request: Request, limit: int) -> bytes:
    said = request.headers.get("content-length", "0")
    kept, size = bytearray(), 0
    too_long = said.isdecimal() and int(said) > limit
    async for part in request.stream():
        size += len(part)
        too_long = too_long or size > limit
        if not too_long:
            kept += part
        elif size > _DISCARDED:
            break
    if too_long:
        raise ApiError(413, "MAX_REQUEST_SIZE_EXCEEDED", f"a request may have {limit} bytes; send fewer or smaller photos at once")
    return bytes(kept)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    return JSONResponse(error.body, error.status, dict(error.headers))


async def _fail(_: Request, error: Exception) -> Response:
    _log.error("%s", error)
    return JSONResponse({"error_code": "INTERNAL_ERROR", "message": str(error)}, 500)


async def _no_such_api(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    return JSONResponse(
        {"error_code": "ENDPOINT_NOT_FOUND", "message": f"no API for {request.method} {request.url.path}"}, error.status_code
    )


async def _hung_up(_: Request, __: Exception) -> Response:
    """The caller went away before its request was complete: a tab that was closed is no error of ours, and nobody reads this."""
    return Response(status_code=400)


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _TokenRequired:
    """Stands in front of everything, unknown paths too, so that nothing can be forgotten."""

    def __init__(self, app: FastAPI, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            given = dict(scope["headers"]).get(b"authorization")
            if given is None:
                error = ApiError(
                    401, "UNAUTHENTICATED", "no token: send Authorization: Bearer and the token of the home folder's endpoint/token"
                )
            elif not hmac.compare_digest(given, self._expected):
                error = ApiError(
                    403, "PERMISSION_DENIED", "invalid access token: it was cut off, or is that of another server's home folder"
                )
            else:
                return await self._app(scope, receive, send)
            return await JSONResponse(error.body, error.status)(scope, receive, send)
        return await self._app(scope, receive, send)
