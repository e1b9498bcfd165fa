"""The description of the API for programs: `GET /openapi.json`, OpenAPI 3.1.

FastAPI makes it from the routes. This module adds what FastAPI cannot see there: request bodies, which the routes read
themselves, errors, which are raised below the routes, and the token, which is checked before a route is called.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from car_damage import __version__
from car_damage.server.api.responses import Error
from car_damage.server.errors import ErrorKind
from car_damage.settings import Settings

_REFERENCE = "#/components/schemas/{model}"
TOKEN = ErrorKind.NO_TOKEN, ErrorKind.WRONG_TOKEN
BODY = ErrorKind.SLOW_BODY, ErrorKind.LARGE_BODY
NO_TOKEN_NEEDED: dict[str, Any] = {"security": []}


class ServingApi(FastAPI):
    """An application whose description also names its request bodies, its errors and its token.

    Args:
        settings: address and limits.
        bodies: union of all request bodies.
        more: arguments of FastAPI.
    """

    def __init__(self, settings: Settings, bodies: Any, **more: Any) -> None:
        super().__init__(
            title="car-damage endpoint server",
            version=__version__,
            description=(
                f"A request about photos may have up to {settings.serving.max_request_bytes} bytes. "
                "Any other path or method is answered with ENDPOINT_NOT_FOUND."
            ),
            servers=[{"url": settings.serving.host or "/"}],
            docs_url=None,
            redoc_url=None,
            generate_unique_id_function=lambda route: route.name,
            **more,
        )
        self._bodies = bodies

    def openapi(self) -> dict[str, Any]:
        """The document. FastAPI makes it once and keeps it."""
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["schemas"] |= TypeAdapter(self._bodies | Error).json_schema(ref_template=_REFERENCE)["$defs"]
            token = {"type": "http", "scheme": "bearer", "description": "The content of <home>/endpoint/token."}
            document["components"]["securitySchemes"] = {"token": token}
            document["security"] = [{"token": []}]
        return super().openapi()


def json_body(model: type, **other_types: Any) -> dict[str, Any]:
    """The request body of a route that reads it itself."""
    content = {"application/json": {"schema": _reference(model)}, **other_types}
    return {"requestBody": {"required": True, "content": content}}


def errors(*kinds: ErrorKind) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route."""
    # Without this entry FastAPI adds a response 422, which no route returns.
    responses: dict[int | str, dict[str, Any]] = {
        "4XX": {"description": "Any other error has the same body.", "content": {"application/json": {"schema": _reference(Error)}}}
    }
    for status in sorted({kind.status for kind in kinds}):
        same = [kind for kind in kinds if kind.status == status]
        schema = _reference(Error) | {"properties": {"error_code": {"enum": [*dict.fromkeys(kind.code for kind in same)]}}}
        responses[status] = {
            "description": " ".join(kind.meaning for kind in same),
            "content": {"application/json": {"schema": schema}},
        }
        if same[0].has_retry_after:
            responses[status]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return responses


def _reference(model: type) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
