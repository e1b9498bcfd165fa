"""Answers the requests to a served model like MLflow's scoring application, with one call of the model for several requests.

The model's process loads this module by path (see host.py), so it imports none of our modules.
"""

import asyncio
import contextlib
import json
import struct
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

CALLS = 2
"""Calls of a model at the same time: one runs Python while the other one decodes photos or runs the network."""
BUNCH = 8
"""Requests that one call answers, at most."""
_JSON = "application/json"
_PLAIN = frozenset({_JSON, f"{_JSON}; charset=utf-8", f"{_JSON};charset=utf-8"})
_IMAGE = "image"
"""The only column of a photo's request."""
PING = 2**32 - 1
"""In place of the length of a content type: the request asks only whether the process still runs. The model does not see it."""
_COLUMNS, _ROWS = 16, 1_000
"""Columns and rows of a request, at most. Tables of pandas take rows x columns, so a small body could take gigabytes."""
_CSV = "text/csv"


@dataclass(frozen=True)
class Response:
    """The HTTP response of MLflow's scoring application."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True, eq=False)
class _Request:
    content_type: str
    body: bytes
    response: asyncio.Future[Response]

    def respond(self, response: Response) -> None:
        """Set the response. Call this from a thread other than the event loop's."""
        self.response.get_loop().call_soon_threadsafe(self._set, response)

    def _set(self, response: Response) -> None:
        if not self.response.done():
            self.response.set_result(response)


class Scoring:
    """Responds like MLflow's scoring application, but without its web framework, and to several requests with one call.

    A thread takes the waiting requests, at most BUNCH, and does not wait for more. So the busier the model is, the more requests
    share the cost of a call.
    """

    def __init__(self, model: Any) -> None:
        from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

        self._model, self._schema = model, model.metadata.get_input_schema()
        self._columns = self._schema.input_names() if self._schema else []
        self._classify = _classify(model)
        self._timeout = MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()
        self._waiting: deque[_Request] = deque()
        self._threads, self._idle = ThreadPoolExecutor(CALLS, thread_name_prefix="scoring"), CALLS

    async def serve(self, socket: str, ready: Callable[[], None]) -> None:
        """Serve for ever. Calls `ready` when the socket is open."""
        server = await asyncio.start_unix_server(self._serve_connection, socket)
        ready()
        await server.serve_forever()

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, size = struct.unpack(">II", await reader.readexactly(8))
                if kind == PING:
                    response = Response(200, "", "")
                else:
                    content_type = (await reader.readexactly(kind)).decode("latin-1")
                    response = await self.answer(content_type, await reader.readexactly(size))
                kind, body = response.content_type.encode("latin-1"), response.body.encode()
                writer.write(struct.pack(">HII", response.status, len(kind), len(body)) + kind + body)
                await writer.drain()

    async def answer(self, content_type: str, body: bytes) -> Response:
        """The response to one request."""
        request = _Request(content_type, body, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._begin()
        try:
            async with asyncio.timeout(self._timeout):
                return await request.response
        except TimeoutError:
            return Response(504, _JSON, "Request processing time exceeded limit")

    def _begin(self) -> None:
        while self._idle and self._waiting:
            bunch = [self._waiting.popleft() for _ in range(min(BUNCH, len(self._waiting)))]
            self._idle -= 1
            asyncio.get_running_loop().run_in_executor(self._threads, self._work, bunch).add_done_callback(self._end)

    def _end(self, done: "asyncio.Future[None]") -> None:
        self._idle += 1
        self._begin()
        done.result()

    def _work(self, bunch: list[_Request]) -> None:
        try:
            self._respond(bunch)
        except Exception:  # noqa: BLE001 - an error that `_alone` does not expect must not leave the other requests without a response
            traceback.print_exc()
            for request in bunch:
                request.respond(_failed())

    def _respond(self, bunch: list[_Request]) -> None:
        left = {request: _parsed(request) for request in bunch if not request.response.done()}
        single = [request for request, data in left.items() if request.content_type in _PLAIN and self._is_one_image(data)]
        for request, response in zip(single, self._together([left[request] for request in single]), strict=False):
            request.respond(response)
            del left[request]
        for request, data in left.items():
            problem = data if isinstance(data, Response) else self._too_large(data, request.content_type)
            request.respond(problem or self._alone(data, request.content_type))

    def _is_one_image(self, data: Any) -> bool:
        """Whether the request has one row with the one column of the signature, a string. Such rows can share a call."""
        match data:
            case {"dataframe_records": [dict(row)], **rest} if not rest:
                return list(row) == self._columns == [_IMAGE] and type(row[_IMAGE]) is str
        return False

    def _too_large(self, data: Any, content_type: str) -> Response | None:
        """A refusal of a body whose table would have too many rows or columns."""
        kind = content_type.partition(";")[0].strip()
        if isinstance(data, dict):
            shapes = [_shape(value) for value in data.values()]
        elif kind == _CSV:
            lines = data.splitlines()
            shapes = [(len(lines), max((line.count(b",") + 1 for line in lines), default=0))]
        elif "parquet" in kind:  # it may be compressed, so its size says nothing
            return Response(415, _JSON, json.dumps({"error_code": "BAD_REQUEST", "message": f"send {_JSON} or {_CSV}"}))
        else:
            return None
        takes = ", ".join(self._columns) or "no columns"
        for number, most, what in ((0, _ROWS, "rows"), (1, _COLUMNS, "columns")):
            if max((shape[number] for shape in shapes), default=0) > most:
                return _refused("INVALID_PARAMETER_VALUE", f"the request has more than {most:,} {what}, and the model takes {takes}")
        return None

    def _together(self, requests: list[dict[str, Any]]) -> list[Response]:
        """The responses to requests with one image, from one call; empty if the call fails, because one request may be the cause, and
        MLflow words the error.
        """
        if not requests:
            return []
        try:
            rows = self._classify([request["dataframe_records"][0][_IMAGE] for request in requests])
            bodies = [json.dumps({"predictions": [row]}) for row in rows]
        except Exception:  # noqa: BLE001 - a model may raise anything
            return []
        return [Response(200, _JSON, body) for body in bodies] if len(bodies) == len(requests) else []

    def _alone(self, data: Any, content_type: str) -> Response:
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc import scoring_server

        try:
            response = scoring_server.invocations(data, content_type, self._model, self._schema)
        except MlflowException as error:
            return Response(error.get_http_status_code(), _JSON, error.serialize_as_json())
        except Exception:  # noqa: BLE001 - like a web framework: the stack trace goes to the log, not to the caller
            traceback.print_exc()
            return _failed()
        return Response(response.status, response.mimetype, response.response)


def _classify(model: Any) -> Callable[[list[str]], Any]:
    """The model's function from images to rows. Models of earlier releases have none, and take a table of pandas."""
    from mlflow.exceptions import MlflowException

    with contextlib.suppress(MlflowException):  # it is not made of Python code
        if own := getattr(model.unwrap_python_model(), "classify", None):
            return cast("Callable[[list[str]], Any]", own)

    def by_table(images: list[str]) -> Any:
        import pandas as pd

        return model.predict(pd.DataFrame({_IMAGE: images})).to_dict(orient="records")

    return by_table


def _parsed(request: _Request) -> Any:
    """The request's JSON object, parsed here because MLflow would parse it twice and more slowly. Other bodies stay bytes, so that
    MLflow names the error. But MLflow has none for what Python's parser does not take: deep nesting, and numbers with thousands of digits.
    """
    import orjson

    if request.content_type.partition(";")[0].strip() != _JSON:
        return request.body
    try:
        data = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        try:
            data = json.loads(request.body)  # it takes more, such as NaN
        except (json.JSONDecodeError, UnicodeDecodeError):
            return request.body
        except (ValueError, RecursionError) as error:
            return _refused("BAD_REQUEST", f"the request body cannot be read: {error}")
    return data if isinstance(data, dict) else request.body


def _shape(value: Any) -> tuple[int, int]:
    """(rows, columns), at least, of the table that pandas would make of one field of a request. Looks no deeper than its rows."""
    if isinstance(value, dict):
        lists = [column for column in value.values() if isinstance(column, list)]
        data = value.get("data")
        columns = value.get("columns")
        widths = [len(value), len(columns) if isinstance(columns, list) else 0, _width(data) if isinstance(data, list) else 0]
        return max(map(len, lists), default=0), max(widths)
    return (len(value), _width(value)) if isinstance(value, list) else (0, 0)


def _width(rows: list[Any]) -> int:
    names: set[Any] = set()
    longest = 0
    for row in rows:
        if isinstance(row, dict):
            names.update(row)
        elif isinstance(row, list):
            longest = max(longest, len(row))
    return max(len(names), longest)


def _failed() -> Response:
    return Response(500, "text/plain; charset=utf-8", "Internal Server Error")


def _refused(code: str, message: str) -> Response:
    return Response(400, _JSON, json.dumps({"error_code": code, "message": message}))
