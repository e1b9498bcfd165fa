"""Runs a model in a process that has imported none of our code (see car_damage.model.served.host).

So a model is checked and judged with the code that it contains, above all its decoder, and not with the code that is
installed here. The process gets a short list of environment variables without credentials, and an empty
working directory. It is a process group of its own, which is killed at the end of the call, even after an error.
"""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from car_damage.errors import ModelRefused, Terminal
from car_damage.machine import Scratch
from car_damage.model.served.environment import TAIL, build, scrubbed
from car_damage.packages import Versions, differing, told
from car_damage.photo.columns import may_be, probabilities

HOST = Path(__file__).with_name("host.py")

Environment = Literal["this", "uv", "fitting"]
"""this: the Python of this environment. uv: a fresh environment with the model's own requirements. fitting: this one if the model loads
in it, and otherwise a fresh one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelAnswer:
    """A model's answer for one photo. For a photo that the model refuses, only `refused` is set."""

    label: str
    probability: float
    probabilities: dict[str, float]
    """Class -> probability, in the order of the network's outputs."""
    sha256: str
    """Of the photo's file, computed by the model."""
    refused: str = ""
    """Why the model refuses the photo; empty if it does not."""
    classes: tuple[str, ...] | None = None
    """The classes that cannot be excluded. None: the model of an earlier release does not say."""
    review: bool | None = None
    """Whether a person must look; None as above."""


def answers(
    model: Path,
    photos: Iterable[bytes],
    timeout: float,
    environment: Environment = "this",
    tick: Callable[[int], None] = lambda _: None,
) -> list[ModelAnswer]:
    """All answers of `stream`, which has the arguments' meaning. `tick` is called after each, with the number of photos answered."""
    given = []
    for answer in stream(model, photos, timeout, environment):
        given.append(answer)
        tick(len(given))
    return given


def stream(model: Path, photos: Iterable[bytes], timeout: float, environment: Environment = "this") -> Generator[ModelAnswer]:
    """The answers for photos, in their order. Photos are read one by one when the process needs them, never all at once.

    A model may refuse photos that other models accept, because its decoder is older or its limits are narrower. Such a refusal
    is an answer (`ModelAnswer.refused`), not an error.

    Args:
        model: the folder of a saved MLflow model.
        photos: the bytes of each photo.
        timeout: seconds that the process may take to load the model and give its first answers, and then again for each
            further answer. The time in which `photos` produces its next photo does not count.
        environment: where the model runs.

    Raises:
        ModelRefused: the model does not load, or does not answer in time, or its environment cannot be built.
        Terminal: environment is "uv" and uv is not installed.
    """
    with conversation(model, timeout, environment) as asked:
        yield from asked.answers(photos, timeout)


@contextlib.contextmanager
def conversation(model: Path, timeout: float, environment: Environment = "this") -> "Iterator[Conversation]":
    """Start a model's process, which ends with the block. The arguments and errors are those of `stream`."""
    with Scratch("model") as scratch:
        python = _python(model, scratch, timeout, environment)
        with _process([python, "-P", str(HOST), "answer", str(model.absolute())], scratch) as (process, stderr):
            yield Conversation(process, stderr, model)


class Conversation:
    """Asks a model's process about one series of photos after another. After an error it is over.

    Args:
        process: runs the command `answer` of car_damage.model.served.host.
        stderr: the file of its other output.
        model: the model's folder, for messages.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", stderr: Path, model: Path) -> None:
        self._process, self._stderr, self._model = process, stderr, model
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(process, self._lines), daemon=True).start()

    def answers(self, photos: Iterable[bytes], timeout: float) -> Iterator[ModelAnswer]:
        """The answers for a series; see `stream`. The next series can begin when all of them were taken."""
        sent = _Sender(self._process, photos)
        sent.start()
        count = 0
        left = timeout
        while True:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                left = timeout - sent.done_reading_for()
                if left > 0:  # the model was waiting for a photo, and its time started when it got the photo
                    continue
                raise ModelRefused(
                    f"the model in {self._model} gave no answer for {timeout:g} seconds; its last output: {_tail(self._stderr)}"
                ) from None
            left = timeout
            if line is None or not line.strip():
                break
            count += 1
            yield _answer(json.loads(line))
        sent.join(timeout)  # a process that reads no more leaves it in a full pipe
        if sent.failure:
            raise sent.failure
        if line is None or sent.is_alive() or count != sent.count:
            ended = self._ended(timeout) if line is None else "went on"
            raise ModelRefused(f"the model in {self._model} {ended} after {count} answers; its last output: {_tail(self._stderr)}")

    def _ended(self, timeout: float) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"ended (exit {self._process.wait(timeout)})"
        return "closed its output"


class _Sender(threading.Thread):
    """Sends photos to the process while its answers are read. The caller's iterable runs in this thread."""

    def __init__(self, process: "subprocess.Popen[bytes]", photos: Iterable[bytes]) -> None:
        super().__init__(daemon=True)
        self._process, self._photos = process, photos
        self.count = 0
        self._read_at: float | None = None
        """When the last photo was read; None while the next photo is being read."""
        self.failure: BaseException | None = None

    def done_reading_for(self) -> float:
        """Seconds since the last photo was read; 0 while the next photo is being read."""
        read_at = self._read_at
        return 0.0 if read_at is None else time.monotonic() - read_at

    def run(self) -> None:
        stream = self._process.stdin
        assert stream is not None  # noqa: S101 - for the type checker: Popen was called with a pipe
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
            stream.flush()
        except BrokenPipeError:
            pass  # the process has ended; `Conversation.answers` checks its exit code
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._read_at = time.monotonic()
            self.failure = error
            self._process.kill()


def _read_lines(process: "subprocess.Popen[bytes]", lines: "queue.SimpleQueue[bytes | None]") -> None:
    stream = process.stdout
    assert stream is not None  # noqa: S101 - for the type checker: Popen was called with a pipe
    for line in stream:
        lines.put(line)
    lines.put(None)


def _answer(row: Mapping[str, Any]) -> ModelAnswer:
    if "refused" in row:
        return ModelAnswer("", 0.0, {}, "", row["refused"])
    given = probabilities(row)
    return ModelAnswer(row["label"], row["probability"], given, row["sha256"], classes=may_be(row), review=row.get("review"))


@contextlib.contextmanager
def _process(command: Sequence[str], scratch: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Start a process as its own group, which is killed at the end; returns the process and the file of its stderr."""
    output = scratch / "stderr"
    work = scratch / "work"
    work.mkdir()
    with output.open("wb") as stderr:
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
        yield process, output
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BrokenPipeError), process:
            pass  # leaving it closes the pipes


def _python(model: Path, scratch: Path, timeout: float, environment: Environment) -> str:
    """The Python that runs the model. A model of the packages that are here loads here, so only another one is tried."""
    if environment == "uv":
        return build(model, scratch / "environment", timeout)
    if environment == "fitting" and (different := differing((model / "requirements.txt").read_text())):
        try:
            answers(model, [], timeout)
        except ModelRefused as error:
            return _its_own(model, scratch, timeout, different, error)
    return sys.executable


def _its_own(model: Path, scratch: Path, timeout: float, different: Versions, refused: ModelRefused) -> str:
    _log.warning("the model was made with %s, and does not load here: uv builds an environment for it. %s", told(different), refused)
    try:
        return build(model, scratch / "environment", timeout)
    except Terminal as error:
        raise ModelRefused(
            f"the model was made with {told(different)}, and does not load here. An environment of its own cannot be built: install "
            f"uv, and let it reach a package index, or take a version live that loads here. {error}; {refused}"
        ) from error


def _tail(stderr: Path) -> str:
    return stderr.read_text(errors="replace")[-TAIL:].strip() or "none"
