"""The error for a service that does not start, and the length of its log."""

import errno
import signal
import sys
from pathlib import Path

import pytest

from car_damage.errors import Terminal
from car_damage.machine import LONGEST_LOG, shorten
from deployments.processes import service
from tests.prefect.service import until


def never() -> bool:
    return False


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('no such table'); raise SystemExit(3)", r"^the thing ended with code 3; the end of \S+thing\.log:\nno such table\n$"),
        (
            "import os; print('busy', flush=True); os.kill(os.getpid(), 9)",
            r"^the thing was ended by SIGKILL: another process sent it, or memory ran out; its log is \S+thing\.log$",
        ),
    ],
)
def test_one_that_ends_is_told_with_its_cause(tmp_path: Path, code: str, said: str) -> None:
    with service("thing", [sys.executable, "-c", code], tmp_path / "thing.log", never) as thing, pytest.raises(Terminal, match=said):
        thing.await_ready(30)


def test_one_that_does_not_answer_in_time_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('starting', flush=True); time.sleep(60)"]
    with service("thing", command, tmp_path / "thing.log", "http://127.0.0.1:9/health") as thing:
        until(thing.log.read_text, "it has said something")
        with pytest.raises(Terminal, match=r"does not answer at http://127\.0\.0\.1:9/health after 0 s; the end of \S+:\nstarting\n$"):
            thing.await_ready(0.2)


def test_a_log_has_a_length_and_its_service_need_not_know(tmp_path: Path) -> None:
    code = "import sys\nfor number in range(10**9): print(number, 'x' * 1000, flush=True)"
    with service("thing", [sys.executable, "-c", code], tmp_path / "thing.log", never) as thing:
        for _ in range(2):
            until(lambda: thing.log.stat().st_size > LONGEST_LOG, "a long log")
            thing.process.send_signal(signal.SIGSTOP)  # it writes as much in less time than this process may be made to wait
            thing.check()
            assert thing.log.stat().st_size < LONGEST_LOG
            assert (tmp_path / "thing.log.1").stat().st_size == LONGEST_LOG
            thing.process.send_signal(signal.SIGCONT)
            until(lambda: thing.log.stat().st_size > 10_000, "it goes on")
    _, *whole, _ = thing.log.read_text().splitlines()  # the first and the last line may be parts
    assert int(whole[0].split()[0]) < int(whole[-1].split()[0])
    assert {path.name for path in tmp_path.iterdir()} == {"thing.log", "thing.log.1"}


def test_on_a_full_disk_a_long_log_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = tmp_path / "thing.log"
    log.write_bytes(b"x" * 100)
    monkeypatch.setattr(Path, "write_bytes", full)
    shorten(log, keep=10, longest=50)
    assert log.read_bytes() == b"x" * 10
