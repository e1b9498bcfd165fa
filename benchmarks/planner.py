"""Memory and time of planning silver for a million photos, and time of 4,000 conflicts among 40,000 photos.

Memory is the planner's own: the peak of its process while it plans, less what it held before, the tables that the planner is given. What
the plan returns counts as the planner's. Each plan has a process of its own. The baseline is the size of the given tables, or the time of
the same photos without conflicts.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.near_duplicates import resembling
from car_damage.data.photos import ledger
from car_damage.data.photos.assignment import ASSIGNED
from car_damage.data.photos.silver import BRONZE_COLUMNS, SILVER, plan
from car_damage.data.photos.splits import SPLITS
from car_damage.settings import Split

PHOTOS = 1_000_000
NIGHTS = ("first", "nothing new", "1 % new")
CONFLICTING, CONFLICTS = 40_000, 4_000
_CLASSES = pa.array(["minor", "moderate", "major"])


def run(photos: int = PHOTOS) -> list[dict[str, object]]:
    return [*(_memory(photos, night) for night in NIGHTS), _conflicts()]


def _memory(photos: int, night: str) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.planner", str(photos), night]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {
        "name": f"planning {photos:,} photos, {night}: memory, in {found['seconds']:.0f} s",
        "value": round(found["peak"] / photos),
        "unit": "bytes a photo",
        "baseline": f"the given tables, {found['given'] / photos:.0f} bytes a photo",
        "ratio": round(found["peak"] / found["given"], 2),
    }


def _conflicts() -> dict[str, object]:
    seconds = {}
    for conflicts in (0, CONFLICTS):
        seconds[conflicts] = _seconds(_given(_bronze(CONFLICTING, conflicts), 0))
    return {
        "name": f"planning {CONFLICTING:,} photos with {CONFLICTS:,} conflicts",
        "value": round(seconds[CONFLICTS], 2),
        "unit": "s",
        "baseline": f"without conflicts, {seconds[0]:.2f} s",
        "ratio": round(seconds[CONFLICTS] / seconds[0], 2),
    }


def _seconds(given: Sequence[pa.Table]) -> float:
    start = time.perf_counter()
    plan(*given, Split())
    return time.perf_counter() - start


def _bronze(photos: int, conflicts: int = 0) -> pa.Table:
    """Rows of valid photos. A fifth of the hashes resemble another one; each hundredth row is a duplicate; `conflicts` contents are there
    twice, with two labels.
    """
    number = np.arange(photos)
    content = np.where(number < 2 * conflicts, number // 2, number - (number % 100 == 1))
    random = np.random.default_rng(0)
    sha256 = random.integers(0, 256, (photos, 32), np.uint8)[content]
    columns = {
        "path": pc.binary_join_element_wise("/data/landing/camera-", pa.array(number // 500).cast(pa.string()), "/", _names(number), ""),
        "size": pa.array(random.integers(20_000, 400_000, photos)),
        "modified": pa.array(number).cast(ledger.INSTANT),
        "sha256": _hexadecimal(sha256),
        "phash": pa.array(resembling(photos)[content].view(np.int64)),
        "label": _CLASSES.take(pa.array(np.where(number < 2 * conflicts, number % 2, content % 3))),
        "status": pa.repeat(ledger.VALID, photos),
        "reason": pa.nulls(photos, pa.string()),
        "detail": pa.nulls(photos, pa.string()),
        "width": pa.repeat(1000, photos),
        "height": pa.repeat(667, photos),
    }
    return pa.table(columns).select(BRONZE_COLUMNS).cast(pa.schema([ledger.BRONZE.field(name) for name in BRONZE_COLUMNS]))


def _names(number: Any) -> pa.Array:
    return pc.binary_join_element_wise(pc.utf8_lpad(pa.array(number).cast(pa.string()), 12, "0"), "jpg", ".")


def _hexadecimal(digests: Any) -> pa.Array:
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.stack([digits[digests >> 4], digits[digests & 15]], axis=2)
    offsets = np.arange(0, 64 * len(digests) + 1, 64, dtype=np.int32)
    return pa.StringArray.from_buffers(len(digests), pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


def _silver(bronze: pa.Table) -> pa.Table:
    """Silver as a plan could have left it. Only its size matters here."""
    bronze = bronze.filter(pa.array(np.arange(bronze.num_rows) % 100 != 1))
    split = pa.array(SPLITS).take(pa.array(np.arange(bronze.num_rows) % 3))
    nobody = pa.nulls(bronze.num_rows, pa.string())
    return bronze.select(SILVER.names[:-2]).append_column("split", split).append_column("label_from", nobody).cast(SILVER)


def _given(bronze: pa.Table, known: int) -> tuple[pa.Table, ...]:
    """The tables that the planner is given, when silver has the first rows of bronze."""
    nothing, nowhere = pa.nulls(bronze.num_rows, pa.string()), pa.repeat(False, bronze.num_rows)
    labels = pa.table([bronze["label"], nothing, nowhere, nothing, nothing], ["label", "reason", "elsewhere", "said", "withheld"])
    silver = _silver(bronze.slice(0, known))
    return bronze, labels, silver, silver.select(ASSIGNED.names)


def _measure(photos: int, night: str) -> dict[str, float]:
    _seconds(_given(_bronze(1_000), 0))  # loads what every plan needs
    known = {"first": 0, "nothing new": photos, "1 % new": photos - photos // 100}[night]
    given = _given(_bronze(photos), known)
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    seconds = _seconds(given)
    return {"peak": _status("VmHWM") - before, "seconds": seconds, "given": sum(table.nbytes for table in given)}


def _status(name: str) -> int:
    """Bytes, from Linux. VmHWM: the peak since it was cleared."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(_measure(int(sys.argv[1]), sys.argv[2])))
    else:
        for row in run():
            print(row)
