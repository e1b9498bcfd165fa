"""The route that predicts photos.

It passes the bodies of requests and responses on unread, so their models here only describe them in /openapi.json.
"""

import json
from functools import partial
from typing import Annotated, Any, NotRequired

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ConfigDict, Field, with_config
from pydantic.config import JsonDict
from typing_extensions import TypedDict

from car_damage.data.answers.inference_log import ANSWERED
from car_damage.photo.columns import probability_column
from car_damage.server.api.openapi import BODY, TOKEN, errors, json_body
from car_damage.server.errors import ApiError, ErrorKind
from car_damage.server.hosting.endpoints import Endpoints
from car_damage.server.hosting.measures import Outcome
from car_damage.server.hosting.model_server import ModelResponse
from car_damage.server.keeping import Keeper
from car_damage.server.request_log import RequestLog
from car_damage.server.requests import receive
from car_damage.settings import Serving

_MAX_PHOTOS = 256
"""Photos that a model takes in one request."""
_MAX_MESSAGE = 500
"""Characters of a model's error message that are passed on."""
_CSV = {"text/csv": {"schema": {"type": "string", "description": "One column, image."}}}
_SERVED_BY = {"headers": {"served-model-name": {"description": "The served entity that answered.", "schema": {"type": "string"}}}}
_ERRORS = (
    *(ErrorKind.BAD_PHOTOS, ErrorKind.BAD_ROW, ErrorKind.CONTENT_TYPE, ErrorKind.MODEL_FAILED, ErrorKind.MODEL_TIMEOUT),
    *(ErrorKind.NOT_FOUND, ErrorKind.QUEUE_FULL, ErrorKind.NOT_READY, *TOKEN, *BODY),
)


Share = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(description="Pixels of the upright photo.")]
Image = Annotated[str, Field(description="A photo's file.", json_schema_extra={"contentEncoding": "base64"})]
_FORMS: JsonDict = {
    "oneOf": [{"required": [form]} for form in ("dataframe_records", "dataframe_split", "inputs")],
    "example": {"dataframe_records": [{"image": "/9j/4AAQSkZJRg=="}]},
}
_CLASSES: JsonDict = {
    "patternProperties": {f"^{probability_column('')}": {"type": "number", "minimum": 0, "maximum": 1, "description": "One class."}}
}


class Params(TypedDict, total=False):
    """What a request asks for beside its photos."""

    coverage: Annotated[float, Field(gt=0, lt=1, description="Share of the photos of a class whose `classes` have it.")]
    explain: Annotated[bool, Field(description="Also answer with `map`, for up to 8 photos.")]


class Photo(TypedDict):
    """One photo."""

    image: Image


class PhotoTable(TypedDict):
    """Photos as a table with one column, `image`."""

    columns: Annotated[list[str], Field(json_schema_extra={"contains": {"const": "image"}})]
    data: Annotated[list[list[Image]], Field(min_length=1, max_length=_MAX_PHOTOS)]


@with_config(ConfigDict(json_schema_extra=_FORMS))
class Photos(TypedDict, total=False):
    """Photos in exactly one of three forms."""

    dataframe_records: Annotated[list[Photo], Field(min_length=1, max_length=_MAX_PHOTOS)]
    dataframe_split: PhotoTable
    inputs: Annotated[Any, Field(description="The column `image` or a list of records, as MLflow's scoring server takes them.")]
    params: Params


@with_config(ConfigDict(extra="forbid", json_schema_extra=_CLASSES))
class Prediction(TypedDict):
    """Prediction for one photo."""

    label: str
    probability: Share
    classes: NotRequired[Annotated[list[str], Field(description="The classes that cannot be excluded. Earlier models do not say.")]]
    review: NotRequired[Annotated[bool, Field(description="Whether a person must look. Earlier models do not say.")]]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the photo's file.")]
    width: Pixels
    height: Pixels
    brightness: Share
    sharpness: NotRequired[Annotated[float, Field(ge=0, description="Earlier models do not say.")]]
    warmth: NotRequired[Annotated[float, Field(ge=-1, le=1, description="Earlier models do not say.")]]
    map: NotRequired[Annotated[list[list[Share]], Field(description="Where the damage was seen: rows from the top, with `explain`.")]]


class Predictions(TypedDict):
    """One prediction for each photo, in the order of the request."""

    predictions: list[Prediction]


def add(app: FastAPI, endpoints: Endpoints, serving: Serving, keeper: Keeper | None, log: RequestLog | None) -> None:
    """Add the route. The keeper gets each request that was answered, with its answer, and the log each request."""

    def end(endpoint: str, outcome: Outcome) -> None:
        if log is not None:
            log.put(endpoint, outcome)
        if keeper is not None and outcome.status == ANSWERED:
            keeper.offer(outcome.request, outcome.response, outcome.served_by)

    # FastAPI describes the model of the response and does not check it, because the route returns a Response.
    @app.post(
        "/serving-endpoints/{name}/invocations",
        response_model=Predictions,
        responses={200: _SERVED_BY, **errors(*_ERRORS)},
        openapi_extra=json_body(Photos, **_CSV),
    )
    async def query_endpoint(name: str, request: Request) -> Response:
        """Predict the severity of photos. A model that is scaled to zero is started first."""
        endpoint = endpoints[name]
        content_type = request.headers.get("content-type")
        ended = partial(end, name)
        with endpoint.measures.request(endpoint.served_entity, ended) as outcome, endpoint.queue.place(serving.max_queue):
            data = await receive(request, serving.max_request_bytes, serving.request_timeout)
            if content_type is None:
                raise ApiError(ErrorKind.BAD_PHOTOS, "the request has no Content-Type; send photos as application/json")
            response = await endpoint.score(data, content_type)
            answer = _http(response.model, response.served_by)
            outcome.record(response.served_by, response.model.status, data, bytes(answer.body))
        return answer


def _http(response: ModelResponse, served_by: str) -> Response:
    headers = {"served-model-name": served_by}
    if response.status == 200:
        return Response(response.body, media_type=response.content_type, headers=headers)
    try:
        error = json.loads(response.body)
        code, message = str(error["error_code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        code, message = ("BAD_REQUEST" if response.status < 500 else "INTERNAL_ERROR"), response.body.decode(errors="replace")
    message = _reason(message)
    if response.status == 504:
        message += "; send fewer photos at once"
    # MLflow adds a stack trace, which is left out: it does not help a caller, and it helps an attacker.
    return JSONResponse({"error_code": code, "message": message[:_MAX_MESSAGE]}, response.status, headers)


def _reason(message: str) -> str:
    """What was wrong, in one line. MLflow repeats the caller's data before or after it, and adds how its interface was years ago."""
    message = message.partition("\nInput:")[0].partition(" IMPORTANT:")[0]
    if message.startswith("Failed to predict data"):
        # At the start of a line, because the name of an error may be a part of the reason.
        message = message.rpartition("\nError: ")[2]
    if message.startswith("Failed to enforce schema"):
        message = message.rpartition("Error: ")[2]
    return " ".join(message.split())
