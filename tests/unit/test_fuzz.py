"""`car-damage validate` on thousands of damaged photos: no crash, no hang, limited memory, and no broken photo is accepted."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from car_damage.photo import decoder, reasons
from tests import corpus

COUNT = 2_000
MEMORY = 1 << 30
"""Bytes for the whole process with two workers: Python, numpy, Pillow, and two photos of up to 9,000 x 9,000 pixels
(BMP, TIFF, PNG and similar formats are decoded at full size, four bytes a pixel)."""
DEADLINE = 180
"""Seconds; many times the usual duration."""

CHILD = """
import sys
from pathlib import Path
from car_damage.cli import app
sys.argv = ["car-damage", "validate", "--json", sys.argv[1]]
try:
    app()
finally:
    # Not ru_maxrss: it begins with what the process had that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) * 1024, file=sys.stderr)
"""


@pytest.mark.slow
def test_two_thousand_fuzzed_photos_each_get_one_verdict_and_every_valid_one_can_be_decoded(tmp_path: Path) -> None:
    folder = tmp_path / "minor"
    folder.mkdir()
    for name, data in corpus.fuzzed(COUNT, seed=11):
        (folder / name).write_bytes(data)
    environment = os.environ | {"CAR_DAMAGE_IMAGES__WORKERS": "2"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(tmp_path)], capture_output=True, timeout=DEADLINE, check=False, env=environment
    )
    messages = done.stderr.decode(errors="replace")
    assert done.returncode == 0, messages
    assert "Traceback" not in messages
    assert int(messages.split()[-1]) < MEMORY

    verdicts = {line["path"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert len(done.stdout.splitlines()) == COUNT
    assert set(verdicts) == {str(path) for path in folder.iterdir()}
    assert {line["verdict"] for line in verdicts.values()} == {"valid", "rejected"}
    told = Counter(line["reason"] for line in verdicts.values() if line["verdict"] == "rejected")
    assert set(told) >= {"not an image", "truncated", "corrupt", "too many pixels"}
    assert set(told) <= reasons.PHOTO_REASONS
    for path, line in verdicts.items():
        if line["verdict"] == "valid":
            pixels = decoder.decode(Path(path).read_bytes()).pixels
            assert pixels.shape == (224, 224, 3)
            assert pixels.dtype == np.uint8
    whole = [line for path, line in verdicts.items() if " whole" in path]
    assert whole
    assert all(line["verdict"] == "valid" for line in whole)
