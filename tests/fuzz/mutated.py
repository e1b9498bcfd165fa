"""Mutated photos through `car-damage validate` and an endpoint: no crash, hang or growth, and one verdict from both."""

import base64
import http.client
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from benchmarks.endpoint import Endpoint, endpoint
from tests import corpus, phones, small_model

DEADLINE = 3_600
"""Seconds for all photos of `validate`. Ten thousand take some minutes."""
SLOWEST = 30
"""Seconds that the endpoint may take for one photo."""
GROWTH = 100 << 20
"""Bytes by which the model's process may grow from the first photo of usual size to the last."""


def check(count: int, seed: int = 1) -> None:
    """Print what was compared.

    Raises:
        AssertionError: a verdict differs, or something crashed or grew.
    """
    with tempfile.TemporaryDirectory(prefix="car-damage-fuzz-") as name:
        home, folder = Path(name), Path(name, "photos")
        folder.mkdir()
        for file, data in corpus.fuzzed(count, seed, phones.photos()):
            (folder / file).write_bytes(data)
        validated = _validate(folder)
        assert len(validated) == count
        served = endpoint(home, small_model.network(home), corpus.encoded(corpus.picture(), "JPEG"))
        with served as running:
            _compare(running, folder, validated)
    valid = sum(not reason for reason in validated.values())
    print(f"{count} mutated photos, {valid} of them valid: validate and the endpoint gave one verdict on each")


def _validate(folder: Path) -> dict[str, str]:
    """Path -> `reason: detail`; empty for a valid photo."""
    command = [sys.executable, "-W", "error", "-m", "car_damage.cli", "validate", "--json", "--no-labels", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    verdicts = map(json.loads, done.stdout.splitlines())
    return {one["path"]: f"{one['reason']}: {one['detail']}" if one["reason"] else "" for one in verdicts}


def _compare(running: Endpoint, folder: Path, validated: dict[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=SLOWEST)
    [model] = psutil.Process(running.pid).children(recursive=True)
    sizes = []
    # First those that declare a huge size: malloc keeps for each thread what the largest one took.
    paths = sorted(validated, key=lambda path: (" huge" not in path, path))
    for path in paths:
        reason = validated[path]
        said = _said(running, connection, Path(path).read_bytes())
        assert said == reason, f"{path}: validate says {reason!r}, the endpoint {said!r}"
        if " huge" not in path:
            sizes.append(model.memory_info().rss)
    assert sizes[-1] - sizes[0] < GROWTH, f"the model's process grew from {sizes[0] >> 20} to {sizes[-1] >> 20} MB"


def _said(running: Endpoint, connection: http.client.HTTPConnection, data: bytes) -> str:
    """The endpoint's reason to refuse a photo; empty for one that it classifies."""
    body = json.dumps({"dataframe_records": [{"image": base64.b64encode(data).decode()}]})
    connection.request("POST", running.path, body, running.headers)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    assert response.status in {200, 400}, answer
    return "" if response.status == 200 else str(answer["message"]).removeprefix("row 0: ")
