"""Work on one file in a child process: the result when the child lives, and when it dies."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in a process with one thread, like Spark's Python workers.
PROGRAM = """
import json, os, resource, signal, sys, time
from car_damage.adapters.tables import apart

class Work:
    def __call__(self, path, data):
        if data == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif data == b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif data == b"kill once" and not os.path.exists(sys.argv[3]):
            open(sys.argv[3], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        elif data == b"exit":
            os._exit(3)
        elif data == b"hang":
            time.sleep(600)
        elif data == b"memory":
            bytearray(1 << 30)
        elif data == b"wrong":
            raise ZeroDivisionError(path)
        return {"path": path, "long": "x" * (len(data) * 100_000)}

    def fatal(self, path, data, why):
        return {"fatal": why}

try:
    row = apart.row(Work(), "/a.jpg", sys.argv[1].encode(), seconds=float(sys.argv[2]), memory=256 << 20)
except ZeroDivisionError as error:
    row = {"raised": str(error)}
children = os.path.exists(f"/proc/{os.getpid()}/task") and open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read()
print(json.dumps({"row": row, "children": children}))
"""


@pytest.mark.parametrize(
    ("data", "row"),
    [
        ("fine", {"path": "/a.jpg", "long": "x" * 400_000}),
        ("kill once", {"path": "/a.jpg", "long": "x" * 900_000}),
        ("kill", {"fatal": "decoding ended its process (SIGKILL)"}),
        ("crash", {"fatal": "decoding ended its process (SIGSEGV)"}),
        ("exit", {"fatal": "decoding ended its process (status 3)"}),
        ("memory", {"fatal": "decoding needed more memory than allowed"}),
        ("hang", {"fatal": "decoding took more than 2 s"}),
        ("wrong", {"raised": "/a.jpg"}),
    ],
)
def test_a_file_has_its_row_whatever_becomes_of_the_process_and_the_process_is_gone(
    tmp_path: Path, data: str, row: dict[str, object]
) -> None:
    seconds = "2" if data == "hang" else "60"
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, data, seconds, str(tmp_path / "killed")], capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(ended.stdout) == {"row": row, "children": ""}
