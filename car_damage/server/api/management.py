"""Routes that create, show, update and delete endpoints. Docstrings of routes are published in /openapi.json."""

from typing import Any

from fastapi import FastAPI, Request

from car_damage.server.api import describe
from car_damage.server.api.openapi import BODY, TOKEN, errors, json_body
from car_damage.server.api.responses import EmptyObject, EndpointDetails, EndpointList, Logs
from car_damage.server.errors import ErrorKind
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.server.requests import Config, NewEndpoint, parse, receive

API = "/api/2.0/serving-endpoints"
_MAX_BYTES = 1 << 20
"""Bytes that a request body may have."""
_FIELDS = ErrorKind.MALFORMED, ErrorKind.INVALID


def add(app: FastAPI, endpoints: Endpoints, body_timeout: float) -> None:
    """Add the routes. The body of a request must arrive within `body_timeout` seconds."""

    @app.post(API, responses=errors(*_FIELDS, ErrorKind.EXISTS, ErrorKind.DISK, *TOKEN, *BODY), openapi_extra=json_body(NewEndpoint))
    async def create_endpoint(request: Request) -> EndpointDetails:
        """Create an endpoint and begin to start its model."""
        return describe.details(endpoints.create(parse(NewEndpoint, await receive(request, _MAX_BYTES, body_timeout))))

    @app.get(API, response_model=EndpointList, responses=errors(*TOKEN))
    async def list_endpoints() -> dict[str, Any]:
        """List all endpoints."""
        return {"endpoints": [describe.summary(endpoint) for endpoint in endpoints]}

    @app.get(API + "/{name}", responses=errors(ErrorKind.NOT_FOUND, *TOKEN))
    async def get_endpoint(name: str) -> EndpointDetails:
        """Show an endpoint with its state and its configs."""
        return describe.details(endpoints[name])

    @app.put(
        API + "/{name}/config",
        responses=errors(*_FIELDS, ErrorKind.NOT_FOUND, ErrorKind.UPDATING, ErrorKind.DISK, *TOKEN, *BODY),
        openapi_extra=json_body(Config),
    )
    async def update_config(name: str, request: Request) -> EndpointDetails:
        """Begin to serve another version. The old version answers until the new one is ready."""
        return describe.details(endpoints.update(name, parse(Config, await receive(request, _MAX_BYTES, body_timeout))))

    @app.delete(API + "/{name}", responses=errors(ErrorKind.NOT_FOUND, ErrorKind.DISK, *TOKEN))
    async def delete_endpoint(name: str) -> EmptyObject:
        """Stop an endpoint and delete it, with its logs."""
        await endpoints.delete(name)
        return {}

    @app.get(API + "/{name}/served-models/{served}/build-logs", responses=errors(ErrorKind.NOT_FOUND, *TOKEN))
    async def build_logs(name: str, served: str) -> Logs:
        """Show the output of the last start of a model's process, until it was ready."""
        return {"logs": endpoints.build_log(name, served)}

    @app.get(API + "/{name}/served-models/{served}/logs", responses=errors(ErrorKind.NOT_FOUND, *TOKEN))
    async def server_logs(name: str, served: str) -> Logs:
        """Show the end of all other output of a model's processes."""
        return {"logs": endpoints.server_log(name, served)}
