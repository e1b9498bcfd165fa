"""`make test`: runs half of the tests in parallel with the others, because both spend much of their time waiting.

Each part is its own pytest: a process that was a client of a Prefect server keeps that client's threads and settings.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVICE = ("tests/prefect", "tests/test_demo.py", "tests/test_up.py", "tests/kill", "tests/nights", "tests/databricks/test_resolution.py")
"""The tests that start whole services, each file with its own servers; and, so that both parts take as long, other stories that need
nothing of this process."""
WORKERS = 2
"""Processes for each of the two parts, on two cores: a story waits half of its time for processes, servers or a clock."""
OUTPUT = ROOT / "build" / "test-service.log"
"""The output of the services' tests. It is copied to the terminal when the other tests have ended."""


def command(files: Sequence[str], *options: str) -> list[str]:
    beside = ["--numprocesses", str(WORKERS), "--dist", "loadscope", "--no-loadscope-reorder"]
    return [sys.executable, "-m", "pytest", "--durations", "10", *beside, *options, *files]


def main() -> int:
    """Run both parts and return the exit code of the one that failed."""
    apart = [f"--ignore={path}" for path in SERVICE]
    OUTPUT.parent.mkdir(exist_ok=True)
    with OUTPUT.open("wb") as output:
        service = subprocess.Popen(command(SERVICE), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            others = subprocess.run(command(["tests"], *apart), cwd=ROOT, check=False).returncode
            code = service.wait()
        finally:
            service.terminate()  # only after Ctrl-C is it still running
            service.wait()
            sys.stdout.write(OUTPUT.read_text(errors="replace"))
    return others or code


if __name__ == "__main__":
    sys.exit(main())
