"""Asks a model in a process that has imported none of our code (see car_damage.model.host).

So a model is checked and judged by what it brings along, its decoder above all, and by nothing that happens to be
installed here. The process gets a short list of environment variables, no credentials among them, and an empty
working directory. It is a process group of its own, which ends with the call, however the call ends.
"""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from car_damage.errors import ModelRefused, Terminal
from car_damage.machine import Scratch
from car_damage.photo.columns import probabilities

HOST = Path(__file__).with_name("host.py")
TAIL = 4000
"""Characters of the process' own words that an error carries."""

_ALLOWED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
_ALLOWED_PREFIXES = ("LC_", "TF_", "PYTHON", "OPENBLAS", "OMP", "SSL_CERT_", "UV_")


@dataclass(frozen=True)
class ModelAnswer:
    """What a model says of one photo. Of a photo that it refuses it says why, and no more: no label, no probabilities."""

    label: str
    probability: float
    probabilities: dict[str, float]
    """Class -> probability, in the order of the network's outputs."""
    sha256: str
    """Of the photo's file, as the model saw it."""
    refused: str = ""
    """Why the model takes this for no photo that it can answer; empty for an answer."""


def answers(
    model: Path,
    photos: Iterable[bytes],
    timeout: float,
    environment: Literal["this", "uv"] = "this",
    tick: Callable[[int], None] = lambda _: None,
) -> list[ModelAnswer]:
    """Answer photos, in their order; see `stream`, which gives the answers one by one.

    Args:
        model: a saved MLflow model's folder.
        photos: photo files.
        timeout: see `stream`.
        environment: "this" environment's Python, or "uv".
        tick: told how many photos are answered, after each.
    """
    given = []
    for answer in stream(model, photos, timeout, environment):
        given.append(answer)
        tick(len(given))
    return given


def stream(model: Path, photos: Iterable[bytes], timeout: float, environment: Literal["this", "uv"] = "this") -> Iterator[ModelAnswer]:
    """Answer photos, in their order. They are read one by one as the process takes them, never all at once.

    A model may refuse photos that others take: its decoder is older, or its limits are narrower. That is its answer to those
    photos (`ModelAnswer.refused`), and no error.

    Args:
        model: a saved MLflow model's folder.
        photos: photo files.
        timeout: seconds that the process may take to load the model and give its first answers, and again to give any
            more. The time that `photos` takes for its next one is its own.
        environment: "this" environment's Python; or "uv": a fresh environment of the model's own requirements.

    Raises:
        ModelRefused: the model does not load, does not answer, or not in time; the message ends with its last words.
        Terminal: environment is "uv" and there is no uv.
    """
    with Scratch("model") as scratch:
        python = _fresh_environment(model, scratch, timeout) if environment == "uv" else sys.executable
        with _process([python, "-P", str(HOST), "answer", str(model.absolute())], scratch) as (process, stderr):
            yield from _converse(process, stderr, model, photos, timeout)


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a model's process may see: where programs and certificates are, and threads; no credentials."""
    return {name: value for name, value in environment.items() if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)} | {
        "TF_CPP_MIN_LOG_LEVEL": environment.get("TF_CPP_MIN_LOG_LEVEL", "2"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _converse(
    process: "subprocess.Popen[bytes]", stderr: Path, model: Path, photos: Iterable[bytes], timeout: float
) -> Iterator[ModelAnswer]:
    sent = _Sender(process, photos)
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_read_lines, args=(process, lines), daemon=True).start()
    sent.start()
    count = 0
    left = timeout
    while True:
        try:
            line = lines.get(timeout=left)
        except queue.Empty:
            left = timeout - sent.done_reading_for()
            if left > 0:  # the model waited for a photo, and has had its own time only since then
                continue
            raise ModelRefused(f"the model in {model} gave no answer for {timeout:g} seconds; its last words: {_tail(stderr)}") from None
        left = timeout
        if line is None:
            break
        count += 1
        yield _answer(json.loads(line))
    sent.join()
    if sent.failure:
        raise sent.failure
    code = process.wait()
    if code or count != sent.count:
        raise ModelRefused(f"the model in {model} ended (exit {code}) after {count} answers; its last words: {_tail(stderr)}")


class _Sender(threading.Thread):
    """Feeds photos to the process while its answers are read. The caller's iterable runs in this thread."""

    def __init__(self, process: "subprocess.Popen[bytes]", photos: Iterable[bytes]) -> None:
        super().__init__(daemon=True)
        self._process, self._photos = process, photos
        self.count = 0
        self._read_at: float | None = None
        """When the last photo had been read; None while the next one is being read."""
        self.failure: BaseException | None = None

    def done_reading_for(self) -> float:
        """Seconds since the last photo was read; 0 while the next one is being read."""
        read_at = self._read_at
        return 0.0 if read_at is None else time.monotonic() - read_at

    def run(self) -> None:
        stream = self._process.stdin
        assert stream is not None  # noqa: S101 - for the type checker: Popen was asked for a pipe
        try:
            photos = iter(self._photos)
            while True:
                self._read_at = None
                photo = next(photos, None)
                self._read_at = time.monotonic()
                if photo is None:
                    break
                stream.write(len(photo).to_bytes(8, "big"))
                stream.write(photo)
                self.count += 1
            stream.write(bytes(8))
            stream.close()
        except BrokenPipeError:
            pass  # the process ended; the reader sees its exit code and last words
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._read_at = time.monotonic()
            self.failure = error
            self._process.kill()


def _read_lines(process: "subprocess.Popen[bytes]", lines: "queue.SimpleQueue[bytes | None]") -> None:
    stream = process.stdout
    assert stream is not None  # noqa: S101 - for the type checker: Popen was asked for a pipe
    for line in stream:
        lines.put(line)
    lines.put(None)


def _answer(row: Mapping[str, Any]) -> ModelAnswer:
    if "refused" in row:
        return ModelAnswer("", 0.0, {}, "", row["refused"])
    return ModelAnswer(row["label"], row["probability"], probabilities(row), row["sha256"])


@contextlib.contextmanager
def _process(command: Sequence[str], scratch: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """A process group of its own, killed at the end, and the file of its stderr."""
    words = scratch / "stderr"
    work = scratch / "work"
    work.mkdir()
    with words.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=work,
            env=scrubbed(os.environ),
            start_new_session=True,
        )
    try:
        yield process, words
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            _close(stream)


def _close(stream: IO[bytes] | None) -> None:
    with contextlib.suppress(BrokenPipeError):
        if stream is not None:
            stream.close()


def _fresh_environment(model: Path, scratch: Path, timeout: float) -> str:
    """An environment of the model's Python version and requirements, made by uv; returns its Python."""
    uv = shutil.which("uv")
    if uv is None:
        raise Terminal('tracking.check_environment = "uv" needs the program uv, which is not on PATH: install it, or set "this"')
    version = next(
        line.partition(":")[2].strip() for line in (model / "python_env.yaml").read_text().splitlines() if line.startswith("python:")
    )
    python = str(scratch / "environment" / "bin" / "python")
    for command in (
        [uv, "venv", "--python", version, str(scratch / "environment")],
        [uv, "pip", "install", "--python", python, "--requirements", str(model.absolute() / "requirements.txt")],
    ):
        try:
            subprocess.run(command, check=True, env=scrubbed(os.environ), capture_output=True, text=True, timeout=timeout)
        except subprocess.CalledProcessError as error:
            raise ModelRefused(f"uv could not build the environment of the model in {model}: {error.stderr[-TAIL:]}") from error
        except subprocess.TimeoutExpired as error:
            raise ModelRefused(f"uv took longer than {timeout:g} seconds to build the environment of the model in {model}") from error
    return python


def _tail(stderr: Path) -> str:
    return stderr.read_text(errors="replace")[-TAIL:].strip() or "none"
