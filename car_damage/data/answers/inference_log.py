"""The request log: what an endpoint has answered, one row for each photo of each request, without the photo.

The local endpoint server writes requests into small files (`to_file`), and an inference table of Databricks has them as they were sent.
Either way the same function makes rows of them.

Pure: requests in, Arrow tables and bytes out.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import described, parquet
from car_damage.data.answers import bodies
from car_damage.data.photos import ledger
from car_damage.data.photos.ledger import INSTANT
from car_damage.photo.columns import may_be, probabilities
from car_damage.photo.signals import Signals

INFERENCE_LOG = described.table(
    "Requests to the endpoint, one row for each photo, without the photo. Old rows go; one of a forgotten photo, too.",
    [
        described.column(
            "request_id", pa.string(), "The key: id of the request, with /0, /1, ... if it had several photos.", nullable=False
        ),
        described.column("answered", INSTANT, "When the request ended.", nullable=False),
        described.column("endpoint", pa.string(), "Name of the endpoint."),
        described.column("model_version", pa.int64(), "Version of the registered model that the endpoint served; null if not known."),
        described.column("sha256", pa.string(), "SHA-256 of the photo's bytes, in hexadecimal; null if not known."),
        described.column("width", pa.int64(), "Pixels of the upright photo; null if not answered."),
        described.column("height", pa.int64(), "Pixels of the upright photo; null if not answered."),
        described.column("brightness", pa.float64(), "Mean brightness, from 0 to 1; null if not answered."),
        described.column("sharpness", pa.float64(), "0 without edges; null if not answered, or by a model that does not say."),
        described.column("warmth", pa.float64(), "Mean red less mean blue, from -1 to 1; null like sharpness."),
        described.column("label", pa.string(), "The most probable class; null if not answered."),
        described.column("probability", pa.float64(), "Probability of the label."),
        described.column("probabilities", pa.string(), "Probabilities of all classes, as a JSON object."),
        described.column("classes", pa.string(), "Classes that cannot be excluded, as a JSON array; null if not told."),
        described.column("review", pa.bool_(), "Whether a person must look; null if the version does not say."),
        described.column("refused", pa.string(), "Why the model refused this photo, or the code of the error of the request."),
        described.column("milliseconds", pa.float64(), "Time of the request in the server."),
        described.column("status", pa.int64(), "HTTP status of the request."),
    ],
)
KEY = ("request_id",)
ANSWERED, REFUSED = 200, 400
"""The statuses of a request that a model has answered, and of one that it may have refused because of a photo."""
MOST_PHOTOS = 256
"""Photos that a model takes in one request. More are noted as one row."""

_SAID = {"sha256": str, "width": int, "height": int, "probability": float, "review": bool, **dict.fromkeys(Signals._fields, float)}
"""Columns that are those of the answer."""
_MAP = "map"
"""The column that an answer has where the request asked where the damage was seen."""
_ROW = re.compile(r"(?:^|\s)row (\d+): ([^\n]{1,200})")
"""How a model names the photo for which it refuses a request."""
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


@dataclass(frozen=True)
class Request:
    """A request that has ended."""

    request_id: str
    answered: datetime
    endpoint: str | None
    model_version: int | None
    status: int
    milliseconds: float | None
    response: str | bytes | None
    """The body of the response."""
    asked: str | bytes | None = None
    """The body of a refused request."""


def rows(request: Request) -> list[dict[str, Any]]:
    """The rows of a request. One that cannot be understood is a row without photo. One that asks where the damage was seen has none: it is
    a look at an answer, by a person who has seen it, and no traffic.
    """
    found = _photos(request)
    same = {name: getattr(request, name) for name in ("answered", "endpoint", "model_version", "milliseconds", "status")}
    ids = [f"{request.request_id}/{number}" for number in range(len(found))] if len(found) > 1 else [request.request_id] * len(found)
    return [{"request_id": name} | same | row for name, row in zip(ids, found, strict=True)]


def table(requests: Sequence[Request], *, looks: bool = False) -> pa.Table:
    """The rows of requests, with the schema `INFERENCE_LOG`.

    Args:
        requests: in any order.
        looks: give a look a row, too, without photo and version, which counts as no traffic: by it the request's id is known.
    """
    found = [row for request in requests for row in rows(request) or ([_look(request)] if looks else [])]
    return pa.Table.from_pylist(found, schema=INFERENCE_LOG)


def to_file(requests: Sequence[Request]) -> bytes:
    """The rows of requests as a Parquet file."""
    return parquet.to_bytes(table(requests), "zstd")


def from_file(data: bytes) -> pa.Table:
    """The rows of such a file.

    Raises:
        ValueError: it is none, or not a whole one.
    """
    try:
        return ledger.conform(parquet.from_bytes(data), INFERENCE_LOG, INFERENCE_LOG.names)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise ValueError(f"it is no file of requests: {error}") from error


def once(found: pa.Table, column: str) -> pa.Table:
    """The rows without those whose value in this column an earlier row has. Null is no value."""
    return _first(found, found[column])


def requests(found: pa.Table) -> pa.Table:
    """One row of each request, for what its rows have in common."""
    return _first(found, _request_of(found["request_id"]))


def requests_of(ids: pa.ChunkedArray) -> pa.Array:
    """The requests that rows with these ids belong to, each once."""
    return pc.unique(_request_of(ids))


def _request_of(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(ids, "/.*", "")


def _first(found: pa.Table, values: pa.ChunkedArray) -> pa.Table:
    """The rows whose value, one a row, no earlier row has, and those whose value is null."""
    whole = values.combine_chunks()
    is_first = pc.equal(pc.index_in(whole, value_set=whole), pa.array(range(len(whole)), pa.int32()))
    return found.filter(pc.or_(pc.is_null(whole), is_first))


def _look(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ("request_id", "answered", "endpoint")}


def _photos(request: Request) -> list[dict[str, Any]]:
    if request.status == REFUSED:
        return _refusals(request)
    if request.status != ANSWERED:
        return [{}]
    try:
        answers = json.loads(request.response or b"")["predictions"]
        return [_answer(row) for row in answers if row.get(_MAP) is None] if answers else [{}]
    except _MALFORMED:
        return [{}]


def _answer(row: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: kind(row[name]) for name, kind in _SAID.items() if row.get(name) is not None}
    classes = may_be(row)
    sets = {} if classes is None else {"classes": json.dumps(classes)}
    return columns | sets | {"label": str(row["label"]), "probabilities": json.dumps(probabilities(row))}


def _refusals(request: Request) -> list[dict[str, Any]]:
    code, at, reason = _reason(request.response)
    try:
        sha256s = [None if photo is None else hashlib.sha256(photo).hexdigest() for photo in bodies.photos(request.asked or b"")]
    except _MALFORMED:
        sha256s = []
    if at is None or not at < len(sha256s) <= MOST_PHOTOS:
        return [{"refused": reason or code}]
    return [{"sha256": sha256, "refused": reason if number == at else None} for number, sha256 in enumerate(sha256s)]


def _reason(response: str | bytes | None) -> tuple[str | None, int | None, str | None]:
    """The code of an error, the photo that its message names, and why it was refused. Other messages may quote the request."""
    try:
        error = json.loads(response or b"")
        code, named = str(error["error_code"]), _ROW.search(str(error["message"]))
    except _MALFORMED:
        return None, None, None
    return (code, int(named[1]), named[2].strip()) if named else (code, None, None)
