"""`make fuzz`: runs each target of `tests.fuzz.targets` for its share of the minutes, then the mutated photos.

What a target finds stays in build/fuzz, and `python -m tests.fuzz.targets TARGET FILE` repeats it. Inputs that reach new code stay
there, too, and the next run begins with them.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests import corpus, phones
from tests.fuzz import mutated
from tests.fuzz.targets import TARGETS

FOLDER = Path("build", "fuzz")
MEMORY = 2048
"""MB of a target's process. One photo of 100 megapixels takes 0.4 GB or more."""
SLOWEST = 30
"""Seconds for one input."""

RECORDS = (
    b'{"dataframe_records": [{"image": "AAAA"}]}',
    b'{"dataframe_split": {"columns": ["image"], "data": [["AAAA"]]}}',
    b'{"inputs": {"image": ["AAAA"]}}',
    b'{"instances": [{"image": "data:image/jpeg;base64,AAAA"}]}',
    b"image\nAAAA\n",
    b'{"name": "e", "config": {"served_entities": [{"entity_name": "a.b.c", "entity_version": "1", "workload_size": "Small"}]}}',
)
SEEDS: dict[str, Callable[[], dict[str, bytes]]] = {
    "photo": lambda: corpus.photos(0, 64, 64) | phones.photos(),
    "labels": lambda: {"comma": b"path,label\na.jpg,minor\n", "semicolon": "path;label\nä.jpg;Minor\n".encode("utf-16")},
    "body": lambda: {str(number): body for number, body in enumerate(RECORDS)},
}
"""Target -> inputs to begin with, by name."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for all targets together (default: 5)")
    parser.add_argument("--photos", type=int, default=10_000, help="mutated photos (default: 10,000)")
    chosen = parser.parse_args()
    failed = [target for target in TARGETS if _fuzz(target, round(60 * chosen.minutes / len(TARGETS)))]
    mutated.check(chosen.photos)
    return len(failed)


def _fuzz(target: str, seconds: int) -> int:
    folder = FOLDER / target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS[target]().items():
        (folder / name.replace(" ", "-")).write_bytes(data)
    options = [f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}", "-max_len=60000", "-print_final_stats=1"]
    command = [sys.executable, "-m", "tests.fuzz.targets", target, *options, f"-artifact_prefix={FOLDER}/{target}-", str(folder)]
    log = FOLDER / f"{target}.log"
    with log.open("wb") as output:
        code = subprocess.run(command, check=False, timeout=seconds + 600, stdout=output, stderr=subprocess.STDOUT).returncode
    ran = re.findall(rb"number_of_executed_units: (\d+)", log.read_bytes())
    print(f"{target}: {int(ran[-1]) if ran else 0:,} inputs in {seconds} s{', and one that fails' if code else ''}; see {log}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
