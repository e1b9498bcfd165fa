"""Time of an ingest with nothing new: the stages validate and silver over 20,000 known small files.

The baseline is the work that no ingest can avoid: a recursive listing with stat, and reading bronze's key columns.
"""

import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from car_damage.pipeline import SilverRequest, ValidateRequest
from car_damage.platform import Target
from car_damage.settings import Landing, Settings
from car_damage.stage import silent
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.validate import STAGE as VALIDATE

FILES = 20_000
REPEATS = 9


def run(files: int = FILES) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as root:
        landing = Path(root) / "landing"
        draw(landing, files)
        settings = Settings(home=Path(root) / "home", landing=Landing(folder=str(landing)))

        def validate() -> int:
            return VALIDATE.work(ValidateRequest("bench"), Target(settings), silent).bronze_version

        def ingest() -> int:
            return SILVER.work(SilverRequest("bench", validate()), Target(settings), silent).bronze_version

        ingest()
        bronze = Target(settings).tables.uri(settings.tables.bronze)
        works = {"baseline": lambda: _baseline(landing, bronze, files), "validate": validate, "validate and silver": ingest}
        # In turns, so that other load on the machine affects all alike.
        seconds = {name: float("inf") for name in works}
        for _ in range(REPEATS):
            for name, work in works.items():
                start = time.perf_counter()
                work()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    baseline = seconds.pop("baseline")
    return [
        {
            "name": f"{name} again, nothing new, {files:,} files",
            "value": round(value, 4),
            "unit": "s",
            "baseline": f"listing with stat and reading bronze's key, {baseline:.3f} s",
            "ratio": round(value / baseline, 2),
        }
        for name, value in seconds.items()
    ]


def _baseline(landing: Path, bronze: str, files: int) -> None:
    import pyarrow as pa
    from deltalake import DeltaTable

    seen: list[tuple[str, int, int]] = []

    def scan(folder: str) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    scan(entry.path)
                else:
                    found = entry.stat()
                    seen.append((entry.path, found.st_size, found.st_mtime_ns))

    scan(str(landing))
    keys = pa.RecordBatchReader.from_stream(DeltaTable(bronze).scan(columns=["path", "size", "modified"])).read_all()
    assert len(seen) == keys.num_rows == files


def draw(landing: Path, files: int, seed: int = 0) -> None:
    """Write small photos of random noise, 500 in each folder."""
    random = np.random.default_rng(seed)
    for first in range(0, files, 500):
        folder = landing / f"{first // 500:03d}" / ("minor", "moderate", "major")[first // 500 % 3]
        folder.mkdir(parents=True)
        for number in range(first, min(first + 500, files)):
            out = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC).save(out, "JPEG")
            (folder / f"{number:06d}.jpg").write_bytes(out.getvalue())


if __name__ == "__main__":
    for row in run():
        print(row)
