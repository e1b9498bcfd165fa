"""What the routes' errors look like to a client: JSON with error_code and message, as databricks-sdk reads it."""

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from car_damage.errors import Terminal, Unavailable
from car_damage.server.errors import ApiError, ErrorKind

_log = logging.getLogger(__name__)


def response(error: ApiError) -> Response:
    """The answer to a call that fails."""
    return JSONResponse({"error_code": error.kind.code, "message": error.message}, error.kind.status, error.headers)


def add_errors(app: FastAPI) -> None:
    """Add the handlers of all errors that routes raise."""

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return response(error)

    @app.exception_handler(Terminal)
    @app.exception_handler(Unavailable)
    async def disk_error(_: Request, error: Terminal | Unavailable) -> Response:
        _log.error("%s", error)
        return response(ApiError(ErrorKind.DISK, str(error)))

    @app.exception_handler(HTTPException)
    async def no_such_api(request: Request, error: HTTPException) -> Response:
        message = f"the server has no API {request.method} {request.url.path}"
        return JSONResponse({"error_code": "ENDPOINT_NOT_FOUND", "message": message}, error.status_code)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(_: Request, __: ClientDisconnect) -> Response:
        # The client has gone before its request was complete. That is no error of the server, and nobody reads the response.
        return Response(status_code=400)
