"""Time to validate a folder of photos. The baseline is a simple loop with Pillow: open, load, resize.

Validation does more for each photo (sha256, perceptual hash, verdict) and should be at least 2.5 times as fast on two cores.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from car_damage.adapters.folder import Folder
from car_damage.adapters.reading import each
from car_damage.photo import decoder
from car_damage.photo.limits import Limits
from deployments import demo_photos

COUNT = 120
WIDTH, HEIGHT = 1000, 667
ROUNDS = 5


def run() -> list[dict[str, Any]]:
    """One row. The ratio compares speeds, so more is better."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder)
        _validate(folder)
        # In turns, and the best of each, so that other load on the machine affects both alike.
        rounds = [(_seconds(_pillow, folder), _seconds(_validate, folder)) for _ in range(ROUNDS)]
    baseline, value = (COUNT / min(times) for times in zip(*rounds, strict=True))
    name = f"validation of {COUNT} JPEGs of {WIDTH}x{HEIGHT}"
    against = f"Pillow's open, load and resize one after the other, {baseline:.0f}/s"
    return [{"name": name, "value": round(value, 1), "unit": "photos/s", "baseline": against, "ratio": round(value / baseline, 2)}]


def _write(folder: Path) -> None:
    """Write photos with the detail and noise of a camera: about 110 kB each."""
    random = np.random.default_rng(0)
    for number in range(COUNT):
        if number < 12:
            drawn = folder / "drawn.jpg"
            drawn.write_bytes(demo_photos.photo(demo_photos.CLASSES[number % 3], number))
            large = np.asarray(Image.open(drawn).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32)
            drawn.unlink()
            noisy = (large + random.normal(0, 6, large.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{number:04}.jpg", quality=85)
        else:
            (folder / f"{number:04}.jpg").write_bytes((folder / f"{number % 12:04}.jpg").read_bytes())


def _pillow(folder: Path) -> None:
    for path in folder.iterdir():
        with Image.open(path) as image:
            image.load()
            image.resize((224, 224))


def _validate(folder: Path) -> None:
    files = ((file.path, file.size) for file in Folder().list(str(folder)))
    limits = Limits()
    found = list(
        each(Folder(), files, lambda _, data: decoder.inspect(data), 0, limits.max_bytes, lambda _, size: decoder.oversize(size, limits))
    )
    assert sum(1 for _, inspection, _ in found if inspection is not None and inspection.valid) == COUNT


def _seconds(work: Callable[[Path], None], folder: Path) -> float:
    start = time.perf_counter()
    work(folder)
    return time.perf_counter() - start


if __name__ == "__main__":
    for measured in run():
        print(measured)
