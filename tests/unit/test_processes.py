"""The error for a service that does not start."""

import sys
from pathlib import Path

import pytest

from car_damage.errors import Terminal
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
