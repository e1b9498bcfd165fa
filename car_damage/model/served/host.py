"""The program of a model's process. It is started by path, and never imported.

It imports none of our modules: MLflow puts a model's own code in front of sys.path, but a `car_damage` that is
already imported would hide the model's own decoder. It has three commands:

    python -P host.py answer FOLDER
        Reads photos from stdin, each as 8 bytes of length (big endian) and its bytes; a length of zero ends a series of them,
        and the end of stdin the process. Writes one JSON object per line to stdout, in the same order, after each batch, and an
        empty line after each series. A photo that the model refuses gets {"refused": reason}; the other photos of its batch
        are answered.
    python -P host.py fetch URI FOLDER
        Downloads a model into a folder, which it creates. It runs no code of the model, so it may have the credentials of
        the registry and of its artifacts. The other two commands need none.
    python -P host.py serve FOLDER SOCKET
        Serves MLflow's scoring function on a unix socket. Writes `ready` to stdout when the model has answered its own input
        example and the socket is open. A request consists of the length of its content type, the length of its body, the
        content type and the body. A response has its status in front, and then the same. A length has 4 bytes, a status 2,
        big endian. A connection may send any number of requests, one after another.

All other output goes to stderr. The process ends with its parent: its stdin ends, and on Linux the kernel kills it.
"""

import asyncio
import base64
import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

BATCH = 64
"""Photos in one call of the model, at most."""
_BATCH_BYTES = 8 << 20
"""Bytes that end a batch. It is in memory several times, and a model of a Spark task has less than a gigabyte."""
_PR_SET_PDEATHSIG = 1
_UNUSED = ("matplotlib", "sklearn")
"""Keras imports these packages where they are installed: a third of the time that it takes to import, and no answer needs them."""
_UNUSED_BY_MLFLOW = ("pyarrow", "pyspark", "scipy")
"""MLflow and pandas import these where they are installed. A model that answers by ONNX Runtime does not ask for them."""
_UNUSED_BY_DOWNLOADS = ("pyspark", "scipy")
"""Of these, the ones that no download needs. A download from HDFS needs pyarrow."""
_LATER = ("mlflow.gateway", "mlflow.genai")
"""MLflow's parts for language models: half of the time of its import. Their code runs when something uses them. MLflow's stores do, and
then its modules import each other in a circle that ends in an error; so a process that fetches a model imports them at once."""


def main() -> None:
    """Run one of the three commands."""
    _end_with_parent()
    out = _private_stdout()
    mode, model, *rest = sys.argv[1:]
    _hide(_UNUSED)
    if mode == "answer":
        _answer(model, sys.stdin.buffer, out)
    elif mode in ("fetch", "serve"):
        threading.Thread(target=_exit_at_end_of, args=(sys.stdin.fileno(),), daemon=True).start()
        _fetch(model, rest[0]) if mode == "fetch" else _serve(model, rest[0], out)
    else:
        raise SystemExit(f"{mode} is not a command: use answer, fetch or serve")


class _Later(MetaPathFinder):
    """Finds the modules of _LATER."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in _LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _hide(packages: Iterable[str]) -> list[str]:
    """Let an import of these packages fail at once, except of those that are already imported; returns their names."""
    hidden = [name for name in packages if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # a package that is not there
    return hidden


@contextlib.contextmanager
def _hidden(packages: Iterable[str]) -> Iterator[None]:
    """Hide these packages during the block."""
    hidden = _hide(packages)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _load(folder: str) -> Any:
    """The model in a folder."""
    sys.meta_path.insert(0, _Later())
    with _hidden(_UNUSED_BY_MLFLOW):
        from mlflow.pyfunc import load_model
    # Without its comparison of the installed packages, a third of the start: the judging of a version and doctor compare them.
    return load_model(folder, suppress_warnings=True)


def _answer(folder: str, photos: BinaryIO, out: BinaryIO) -> None:
    if threads := os.environ.get("OMP_NUM_THREADS"):  # TensorFlow does not read it
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", threads)
    model = _load(folder)
    for batch in _batches(photos):
        out.writelines(json.dumps(row).encode() + b"\n" for row in _rows(model, batch))
        if not batch:
            out.write(b"\n")
        out.flush()


def _rows(model: Any, batch: list[bytes]) -> list[dict[str, Any]]:
    """The answers to a batch. A model refuses a whole request, so the photos of a refused batch are sent one by one."""
    import pandas as pd
    from mlflow.exceptions import MlflowException

    if not batch:
        return []
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
    """Batches of at most BATCH photos; an empty one ends a series. A batch also ends with the photo that brings it to 8 MiB."""
    batch: list[bytes] = []
    size = 0
    while head := stream.read(8):
        if length := int.from_bytes(head, "big"):
            batch.append(_exactly(stream, length))
            size += length
        if batch and (not length or len(batch) == BATCH or size >= _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        if not length:
            yield []


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise SystemExit("the photos ended early")
    return data


def _fetch(uri: str, folder: str) -> None:
    with _hidden(_UNUSED_BY_DOWNLOADS):
        from mlflow.artifacts import download_artifacts

    # Downloaded to another folder and renamed, so that a folder with this name is complete.
    with tempfile.TemporaryDirectory(prefix=f"{Path(folder).name}.", dir=Path(folder).parent) as partial:
        print(f"fetching {uri}", file=sys.stderr, flush=True)  # noqa: T201 - the build log
        model = Path(download_artifacts(artifact_uri=uri, dst_path=f"{partial}/model"))
        if not (model / "MLmodel").is_file():  # MLflow downloads a missing folder as an empty one
            raise SystemExit(f"{uri} is registered, but its files are missing from the location in the registry")
        model.rename(folder)


def _serve(folder: str, socket: str, out: BinaryIO) -> None:
    # Like MLflow's scoring application.
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    # TensorFlow's default, one thread per core in each call, costs a third more processor time, and one photo is not faster.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    scoring = _scoring()
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, cores // scoring.CALLS)))
    model = _load(folder)
    _warm_up(model, folder)

    def ready() -> None:
        out.write(b"ready\n")
        out.flush()

    run = asyncio.run
    with contextlib.suppress(ImportError):  # uvloop does not exist for Windows
        from uvloop import run
    run(scoring.Scoring(model).serve(socket, ready))


def _scoring() -> ModuleType:
    """The module scoring.py next to this file, loaded by path, because `car_damage` must stay free for the model's own copy."""
    spec = importlib.util.spec_from_file_location("scoring", Path(__file__).with_name("scoring.py"))
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - for the type checker: a path to a .py file has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _warm_up(model: Any, folder: str) -> None:
    """Send the model its own example like a request, so that the first caller does not wait for its initialisation."""
    from mlflow.pyfunc import scoring_server

    example = Path(folder, "serving_input_example.json").read_text()
    for _ in range(2):
        answer = scoring_server.invocations(example, "application/json", model, model.metadata.get_input_schema())
    print(f"its example: {_brief(answer.response)}", file=sys.stderr, flush=True)  # noqa: T201 - the build log


def _brief(response: str) -> str:
    """Label and probability of an answer. The rest would name the photo, which may have to be forgotten, in a log."""
    try:
        [row] = json.loads(response)["predictions"]
        return " ".join(str(row[name]) for name in ("label", "probability"))
    except (ValueError, KeyError, TypeError):  # the example of a stranger's model
        return "answered"


def _private_stdout() -> BinaryIO:
    """Reserve stdout for answers: the output of libraries goes to stderr instead."""
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_at_end_of(stdin: int) -> None:
    # Not with sys.stdin: this thread would hold its lock for ever, and Python would abort at the regular end of the process.
    while os.read(stdin, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
