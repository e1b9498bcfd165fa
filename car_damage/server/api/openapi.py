"""The API described for programs: `GET /openapi.json`, OpenAPI 3.1.

Written down and not drawn from the routes, which take requests as they come: what a management request may hold stands in
car_damage.server.requests, and what a photo's answer holds in the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic.json_schema import models_json_schema

from car_damage import __version__
from car_damage.server.api.schemas import ANSWERS, ref
from car_damage.server.requests import Config, Create
from car_damage.settings import Settings

Errors = dict[int, tuple[str, ...]]
"""The error codes that an operation may answer, by status."""

_TOKEN: Errors = {401: ("UNAUTHENTICATED",), 403: ("PERMISSION_DENIED",)}
_ABSENT: Errors = {404: ("RESOURCE_DOES_NOT_EXIST",)}
_DISK: Errors = {500: ("INTERNAL_ERROR",)}
_BODY: Errors = {408: ("REQUEST_TIMEOUT",), 413: ("MAX_REQUEST_SIZE_EXCEEDED",)}
_PHOTOS: Errors = {
    400: ("BAD_REQUEST", "INVALID_PARAMETER_VALUE"),
    415: ("BAD_REQUEST",),
    429: ("RESOURCE_EXHAUSTED",),
    500: ("INTERNAL_ERROR",),
    503: ("TEMPORARILY_UNAVAILABLE",),
    504: ("INTERNAL_ERROR",),
}
_MEANINGS = {
    400: "The request is wrong; the message says what about it.",
    401: "No token.",
    403: "A wrong token.",
    404: "No such endpoint, or it serves nothing of this name.",
    408: "The body did not arrive in time.",
    409: "An update is in progress.",
    413: "The body is too large.",
    415: "A Content-Type that is not read.",
    429: "As many requests wait as may; try again after the seconds in Retry-After.",
    500: "The server failed on a request that is in order.",
    503: "No model answers at this moment, and the message says why; try again after the seconds in Retry-After.",
    504: "The model worked too long on the request; send fewer photos at once.",
}


@dataclass(frozen=True)
class _Operation:
    summary: str
    answer: Mapping[str, Any]
    """Schema of the answer with status 200, by media type."""
    errors: Errors = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    """Schema of the request's body, by media type."""
    is_open: bool = False
    """Needs no token."""


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": ref(schema)}}


_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_API, _ONE = "/api/2.0/serving-endpoints", "/api/2.0/serving-endpoints/{name}"
_OPERATIONS: Mapping[tuple[str, str], _Operation] = {
    ("post", "/serving-endpoints/{name}/invocations"): _Operation(
        "Ask about photos; a model that is scaled to zero is started first",
        _json("Predictions"),
        _TOKEN | _ABSENT | _BODY | _PHOTOS,
        _json("Photos") | {"text/csv": {"schema": {"type": "string", "description": "One column, image."}}},
    ),
    ("post", _API): _Operation(
        "Create an endpoint, which begins to start its model",
        _json("Endpoint"),
        {400: ("MALFORMED_REQUEST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS")} | _TOKEN | _BODY | _DISK,
        _json("Create"),
    ),
    ("get", _API): _Operation("List the endpoints", _json("Endpoints"), _TOKEN),
    ("get", _ONE): _Operation("How an endpoint stands", _json("Endpoint"), _TOKEN | _ABSENT),
    ("put", _ONE + "/config"): _Operation(
        "Begin to serve another version; the old one answers until the new one can",
        _json("Endpoint"),
        {400: ("MALFORMED_REQUEST", "INVALID_PARAMETER_VALUE"), 409: ("RESOURCE_CONFLICT",)} | _TOKEN | _ABSENT | _BODY | _DISK,
        _json("Config"),
    ),
    ("delete", _ONE): _Operation("Stop and forget an endpoint", _json("Nothing"), _TOKEN | _ABSENT | _DISK),
    ("get", _ONE + "/served-models/{served}/build-logs"): _Operation(
        "What a model's process printed until it was ready, at its last start", _json("Logs"), _TOKEN | _ABSENT
    ),
    ("get", _ONE + "/served-models/{served}/logs"): _Operation(
        "The end of everything else that a model's processes printed", _json("Logs"), _TOKEN | _ABSENT
    ),
    ("get", _ONE + "/metrics"): _Operation(
        "An endpoint's metrics in Prometheus' text format, as a workspace exports them", _TEXT, _TOKEN | _ABSENT
    ),
    ("get", "/metrics"): _Operation("All metrics of the server in Prometheus' text format", _TEXT, _TOKEN),
    ("get", "/health"): _Operation("The server lives, and these endpoints are ready", _json("Health"), is_open=True),
    ("get", "/openapi.json"): _Operation("This description", {"application/json": {"schema": {"type": "object"}}}, is_open=True),
    ("get", "/.well-known/databricks-config"): _Operation(
        "Where OAuth is found: nowhere, which databricks-sdk asks before anything else", _json("Discovery"), is_open=True
    ),
}


def document(settings: Settings) -> dict[str, Any]:
    """The OpenAPI document."""
    _, bodies = models_json_schema([(Create, "validation"), (Config, "validation")], ref_template="#/components/schemas/{model}")
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in _OPERATIONS.items():
        paths.setdefault(path, {})[method] = _described(method, path, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "car-damage endpoint server",
            "version": __version__,
            "description": (
                f"A photo may be asked about in requests of up to {settings.serving.max_request_bytes} bytes. "
                "Any other path or method is answered with ENDPOINT_NOT_FOUND."
            ),
        },
        "servers": [{"url": settings.serving.host or "/"}],
        "paths": paths,
        "components": {
            "schemas": bodies["$defs"] | ANSWERS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The content of <home>/endpoint/token."},
            },
        },
        "security": [{"token": []}],
    }


def _described(method: str, path: str, operation: _Operation) -> dict[str, Any]:
    words = [word.strip("{}") for word in path.split("/") if word not in {"api", "2.0"}]
    answers = {"200": {"description": "Done.", "content": operation.answer}}
    if "invocations" in path:
        answers["200"]["headers"] = {"served-model-name": {"description": "Who answered.", "schema": {"type": "string"}}}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": "-".join([method, *filter(None, words)]),
        "responses": answers | {str(status): _error(status, codes) for status, codes in sorted(operation.errors.items())},
    }
    if names := [word[1:-1] for word in path.split("/") if word.startswith("{")]:
        described["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if operation.body:
        described["requestBody"] = {"required": True, "content": operation.body}
    if operation.is_open:
        described["security"] = []
    return described


def _error(status: int, codes: tuple[str, ...]) -> dict[str, Any]:
    schema = ref("Error") | {"properties": {"error_code": {"enum": [*codes]}}}
    described: dict[str, Any] = {"description": _MEANINGS[status], "content": {"application/json": {"schema": schema}}}
    if status in {429, 503}:
        described["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
    return described
