"""`make test`: all tests, those of the service beside all others, because both spend most of their time waiting.

They are two pytests: a process that has been the client of a Prefect server keeps threads of that client, and settings.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVICE = ("tests/prefect", "tests/test_demo.py", "tests/test_up.py")
"""What starts whole services. Each file is one story, and has servers of its own."""
WORKERS = 2
"""Processes of each of the two parts, on two cores: half of the time a story waits for processes, servers or a clock."""


def command(files: Sequence[str], *options: str) -> list[str]:
    beside = ["--numprocesses", str(WORKERS), "--dist", "loadscope", "--no-loadscope-reorder"]
    return [sys.executable, "-m", "pytest", "--durations", "10", *beside, *options, *files]


def main() -> int:
    """Run both, and return the exit code of the one that failed. The service's output comes when the others have ended."""
    apart = [f"--ignore={path}" for path in SERVICE]
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(command(SERVICE), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as service,
    ):
        others = subprocess.run(command(["tests"], *apart), cwd=ROOT, check=False).returncode
        code = service.wait()
        output.seek(0)
        sys.stdout.buffer.write(output.read())
    return others or code


if __name__ == "__main__":
    sys.exit(main())
