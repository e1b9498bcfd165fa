"""The process that a model lives in. Started by path, never imported by us.

It imports none of our modules: MLflow only puts a model's own code in front of sys.path, so a `car_damage` that was
imported already would win over the decoder that the model brings. Three ways to use it:

    python -P model_host.py answer FOLDER
        Photos on stdin, each as 8 bytes of length (big endian) and its bytes; a length of zero ends them. Answers on
        stdout, one JSON object a line, in the same order, as soon as a batch is done. A photo that the model refuses
        is answered by {"refused": reason}, and takes no other photo of its batch along.
    python -P model_host.py fetch URI FOLDER
        Downloads a model into a folder, which it makes. Runs nothing of the model, so it may have the credentials of
        the registry and of its artifacts, and the other two need none.
    python -P model_host.py serve FOLDER SOCKET
        MLflow's own scoring function on a unix socket. Writes `ready` to stdout when the model has answered its own input
        example and the socket is open. A request is the lengths of its content type and its body, and the two. An answer is
        its status, and the same. A length has 4 bytes, a status 2, big endian. A connection may bring any number of
        requests, one after the other.

Whatever else prints goes to stderr. The process ends when its parent does: stdin reaches its end, and on Linux the
kernel kills it.
"""

import asyncio
import base64
import contextlib
import ctypes
import json
import os
import signal
import struct
import sys
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

BATCH = 64
"""Photos answered at once."""
_BATCH_BYTES = 64 << 20
CALLS = 2
"""Calls of a served model at the same time: one runs Python while the other one decodes or is in TensorFlow."""
BUNCH = 8
"""Requests that one such call answers at most."""
_JSON = "application/json"
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run one of the three ways."""
    _end_with_parent()
    out = _private_stdout()
    mode, model, *rest = sys.argv[1:]
    if mode == "answer":
        _answer(model, sys.stdin.buffer, out)
    elif mode in ("fetch", "serve"):
        threading.Thread(target=_exit_at_end_of, args=(sys.stdin.fileno(),), daemon=True).start()
        _fetch(model, rest[0]) if mode == "fetch" else _serve(model, rest[0], out)
    else:
        raise SystemExit(f"{mode}: answer, fetch or serve")


def _answer(folder: str, photos: BinaryIO, out: BinaryIO) -> None:
    from mlflow.pyfunc import load_model

    model = load_model(folder)
    for batch in _batches(photos):
        out.writelines(json.dumps(row).encode() + b"\n" for row in _rows(model, batch))
        out.flush()


def _rows(model: Any, batch: list[bytes]) -> list[dict[str, Any]]:
    """A model refuses a request whole, so the photos of one that it refuses are asked one by one."""
    import pandas as pd
    from mlflow.exceptions import MlflowException

    frame = pd.DataFrame({"image": [base64.b64encode(photo).decode() for photo in batch]})
    try:
        return list(model.predict(frame).to_dict(orient="records"))
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        if len(batch) == 1:
            return [{"refused": error.message.removeprefix("row 0: ")}]
        return [row for photo in batch for row in _rows(model, [photo])]


def _batches(stream: BinaryIO) -> Iterator[list[bytes]]:
    """At most BATCH photos and 64 MiB at once, but the last photo of a batch."""
    batch: list[bytes] = []
    size = 0
    while length := int.from_bytes(_exactly(stream, 8), "big"):
        batch.append(_exactly(stream, length))
        size += length
        if len(batch) == BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise SystemExit("the photos ended early")
    return data


def _fetch(uri: str, folder: str) -> None:
    from mlflow.artifacts import download_artifacts

    # Beside it and renamed, so that a folder of that name is whole.
    with tempfile.TemporaryDirectory(prefix=f"{Path(folder).name}.", dir=Path(folder).parent) as partial:
        print(f"fetching {uri}", file=sys.stderr, flush=True)  # noqa: T201 - the build log
        model = Path(download_artifacts(artifact_uri=uri, dst_path=f"{partial}/model"))
        if not (model / "MLmodel").is_file():  # a folder that is gone downloads as an empty one
            raise SystemExit(f"{uri} is registered, and its files are gone from where the registry says that they lie")
        model.rename(folder)


def _serve(folder: str, socket: str, out: BinaryIO) -> None:
    from mlflow.pyfunc import load_model

    # As MLflow's scoring application does.
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    # Its own choice, one for each core in every call, costs a third more processor time and answers one photo no sooner.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, cores // CALLS)))
    model = load_model(folder)
    _warm_up(model, folder)

    def ready() -> None:
        out.write(b"ready\n")
        out.flush()

    run = asyncio.run
    with contextlib.suppress(ImportError):  # there is none for Windows
        from uvloop import run
    run(Scoring(model).serve(socket, ready))


@dataclass(frozen=True)
class Response:
    """What MLflow's scoring application would answer."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True, eq=False)
class _Request:
    content_type: str
    body: bytes
    answer: "asyncio.Future[Response]"

    def give(self, answer: Response) -> None:
        """From another thread."""
        self.answer.get_loop().call_soon_threadsafe(self._give, answer)

    def _give(self, answer: Response) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class Scoring:
    """Answers what MLflow's scoring application answers, without its web framework, and several requests by one call.

    A thread takes the requests that wait, BUNCH at most, and never waits for more: the busier the model, the more of them share
    the cost of a call.
    """

    def __init__(self, model: Any) -> None:
        from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

        self._model, self._schema = model, model.metadata.get_input_schema()
        self._columns = self._schema.input_names() if self._schema else []
        self._timeout = MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()
        self._waiting: deque[_Request] = deque()
        self._threads, self._idle = ThreadPoolExecutor(CALLS, thread_name_prefix="scoring"), CALLS

    async def serve(self, socket: str, ready: Callable[[], None]) -> None:
        """Response for ever; `ready` is called when the socket is open."""
        server = await asyncio.start_unix_server(self._converse, socket)
        ready()
        await server.serve_forever()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, size = struct.unpack(">II", await reader.readexactly(8))
                content_type = (await reader.readexactly(kind)).decode("latin-1")
                answer = await self.answer(content_type, await reader.readexactly(size))
                kind, body = answer.content_type.encode("latin-1"), answer.body.encode()
                writer.write(struct.pack(">HII", answer.status, len(kind), len(body)) + kind + body)
                await writer.drain()

    async def answer(self, content_type: str, body: bytes) -> Response:
        """Response one request."""
        request = _Request(content_type, body, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._begin()
        try:
            async with asyncio.timeout(self._timeout):
                return await request.answer
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
        left = {request: _parsed(request) for request in bunch if not request.answer.done()}
        single = [request for request, data in left.items() if self._is_one_row(data)]
        for request, answer in zip(single, self._together([left[request] for request in single]), strict=False):
            request.give(answer)
            del left[request]
        for request, data in left.items():
            request.give(self._alone(data, request.content_type))

    def _is_one_row(self, data: Any) -> bool:
        """Exactly what the signature asks for, one string a column: nothing about it changes beside rows of its kind."""
        match data:
            case {"dataframe_records": [dict(row)], **rest} if not rest:
                return list(row) == self._columns and all(type(value) is str for value in row.values())
        return False

    def _together(self, requests: list[dict[str, Any]]) -> list[Response]:
        """Answers to requests of one row, by one call. None at all when that fails: it may be the fault of one of them."""
        if len(requests) < 2:
            return []
        answer = self._alone({"dataframe_records": [row for request in requests for row in request["dataframe_records"]]}, _JSON)
        predictions = json.loads(answer.body)["predictions"] if answer.status == 200 else []
        if len(predictions) != len(requests):
            return []
        return [Response(200, answer.content_type, json.dumps({"predictions": [row]})) for row in predictions]

    def _alone(self, data: Any, content_type: str) -> Response:
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc import scoring_server

        try:
            answer = scoring_server.invocations(data, content_type, self._model, self._schema)
        except MlflowException as error:
            return Response(error.get_http_status_code(), _JSON, error.serialize_as_json())
        except Exception:  # noqa: BLE001 - as a web framework does with what nobody caught: the log gets it, the caller does not
            traceback.print_exc()
            return Response(500, "text/plain; charset=utf-8", "Internal Server Error")
        return Response(answer.status, answer.mimetype, answer.response)


def _parsed(request: _Request) -> Any:
    """The JSON object, which MLflow would parse twice, and more slowly; or the bytes, for MLflow to say what they are."""
    import orjson

    if request.content_type.partition(";")[0].strip() != _JSON:
        return request.body
    try:
        data = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return request.body
    return data if isinstance(data, dict) else request.body


def _warm_up(model: Any, folder: str) -> None:
    """The model answers its own example by the way that requests take, so the first caller pays for no first time."""
    from mlflow.pyfunc import scoring_server

    example = Path(folder, "serving_input_example.json").read_text()
    for _ in range(2):
        answer = scoring_server.invocations(example, "application/json", model, model.metadata.get_input_schema())
    print(f"its example: {answer.response}", file=sys.stderr, flush=True)  # noqa: T201 - the build log


def _private_stdout() -> BinaryIO:
    """Keep stdout for answers: libraries that print to it write to stderr instead."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_at_end_of(stdin: int) -> None:
    # Not through sys.stdin, whose lock this thread would hold for ever: Python then aborts when the process ends by itself.
    while os.read(stdin, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
