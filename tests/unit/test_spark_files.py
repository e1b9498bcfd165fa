"""The code for Spark's machines, without Spark: a file that hangs ends its process, and Spark then reports that."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in its own process, like Spark's Python workers.
PROGRAM = """
import sys, time
import pyarrow as pa
from car_damage.adapters.tables import spark_files

class Work:
    def __call__(self, path, data):
        if data == b"hang":
            time.sleep(600)
        return {"size": len(data)}

spark_files.SECONDS = 1.0
schema = pa.schema([("path", pa.string()), ("unreadable", pa.string()), ("size", pa.int64())])
reader = spark_files.Reader(Work(), schema, alone=False)
rows = pa.Table.from_batches(reader(iter([pa.record_batch({"paths": [sys.argv[1:]]})])))
time.sleep(1.5)
print(rows["size"].to_pylist())
"""


@pytest.mark.parametrize(("contents", "code", "told"), [(["one", "three"], 0, "[3, 5]\n"), (["one", "hang"], -signal.SIGALRM, "")])
def test_a_file_that_hangs_ends_its_process_and_one_that_does_not_leaves_no_alarm(
    tmp_path: Path, contents: list[str], code: int, told: str
) -> None:
    paths = []
    for number, content in enumerate(contents):
        paths.append(str(tmp_path / str(number)))
        Path(paths[-1]).write_text(content)
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *paths], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (code, told), ended.stderr[-1000:]
