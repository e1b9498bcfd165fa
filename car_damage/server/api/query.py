"""The route that predicts photos. It passes request and response bodies on unread."""

import json

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from car_damage.server.api import body
from car_damage.server.api.openapi import BODY, TOKEN, errors, json_body
from car_damage.server.api.photos import PhotoInputs, PhotoRecords, PhotoSplit, Predictions
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.server.hosting.model_server import ModelResponse
from car_damage.settings import Serving

_MAX_MESSAGE = 2000
"""Characters of a model's error message that are passed on: some of MLflow's messages repeat the whole input."""
_CSV = {"text/csv": {"schema": {"type": "string", "description": "One column, image."}}}
_SERVED_BY = {"headers": {"served-model-name": {"description": "The served entity that answered.", "schema": {"type": "string"}}}}
_ERRORS = (
    *(ErrorKind.BAD_PHOTOS, ErrorKind.BAD_ROW, ErrorKind.CONTENT_TYPE, ErrorKind.MODEL_FAILED, ErrorKind.MODEL_TIMEOUT),
    *(ErrorKind.NOT_FOUND, ErrorKind.QUEUE_FULL, ErrorKind.NOT_READY, *TOKEN, *BODY),
)


def add(app: FastAPI, endpoints: Endpoints, serving: Serving) -> None:
    """Add the route."""

    # FastAPI describes the model of the response and does not check it, because the route returns a Response.
    @app.post(
        "/serving-endpoints/{name}/invocations",
        response_model=Predictions,
        responses={200: _SERVED_BY, **errors(*_ERRORS)},
        openapi_extra=json_body(PhotoRecords, PhotoSplit, PhotoInputs, **_CSV),
    )
    async def query_endpoint(name: str, request: Request) -> Response:
        """Predict the severity of photos. A model that is scaled to zero is started first."""
        endpoint = endpoints[name]
        content_type = request.headers.get("content-type")
        with endpoint.measures.request(endpoint.served_entity) as outcome, endpoint.queue.place(serving.max_queue):
            data = await body.read(request, serving.max_request_bytes, serving.request_timeout)
            if content_type is None:
                raise ApiError(ErrorKind.BAD_PHOTOS, "the request has no Content-Type; send photos as application/json")
            response = await endpoint.score(data, content_type)
            outcome.is_answered(response.served_by, response.model.status)
        return _http(response.model, response.served_by)


def _http(response: ModelResponse, served_by: str) -> Response:
    headers = {"served-model-name": served_by}
    if response.status == 200:
        return Response(response.body, media_type=response.content_type, headers=headers)
    try:
        error = json.loads(response.body)
        code, message = str(error["error_code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        code, message = ("BAD_REQUEST" if response.status < 500 else "INTERNAL_ERROR"), response.body.decode(errors="replace")
    if message.startswith("Failed to predict data"):  # MLflow repeats the caller's data before it says what was wrong
        message = message.rpartition("\nError: ")[2]
    if response.status == 504:
        message += "; send fewer photos at once"
    # MLflow adds a stack trace, which is left out: it does not help a caller, and it helps an attacker.
    return JSONResponse({"error_code": code, "message": message[:_MAX_MESSAGE]}, response.status, headers)
