"""The planner's own memory, as `benchmarks.planner` measures it: ten million photos must fit into a driver of 16 GB."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHOTOS = 100_000
MOST = 400
"""Bytes a photo, beside the tables that the planner is given."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a part of a process")
@pytest.mark.parametrize("night", ["nothing new", "1 % new"])
def test_the_planner_needs_few_bytes_a_photo(night):
    command = [sys.executable, "-m", "benchmarks.planner", str(PHOTOS), night]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert json.loads(told)["peak"] < MOST * PHOTOS
