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
        MLflow's own scoring application on a unix socket. Writes `ready` to stdout when the model has answered its own
        input example and the socket is open.

Whatever else prints goes to stderr. The process ends when its parent does: stdin reaches its end, and on Linux the
kernel kills it.
"""

import base64
import ctypes
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

BATCH = 64
"""Photos answered at once."""
_BATCH_BYTES = 64 << 20
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
    import uvicorn
    from mlflow.pyfunc import load_model, scoring_server

    model = load_model(folder)
    _warm_up(model, folder)
    application = scoring_server.init(model)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            out.write(b"ready\n")
            out.flush()

    Server(uvicorn.Config(application, uds=socket, access_log=False, log_level="warning", lifespan="off", timeout_keep_alive=86_400)).run()


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
