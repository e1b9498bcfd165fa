"""Whether logged answers replay: a version answers photos, the tables keep what it said, and the same version is asked once more.

Photos are drawn, and the network is not trained, so that its probabilities are as different as photos are.
"""

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.endpoint import CLASSES, network
from car_damage.adapters.mlflow.client import fluent
from car_damage.model.served import package
from car_damage.pipeline import ScoreRequest
from car_damage.platform import Target
from car_damage.ports import CHAMPION, KEY_TAG
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.score import STAGE as SCORE
from car_damage.traces.account import answers_of
from car_damage.traces.replay import replayed
from deployments import demo_photos

PHOTOS = 1000


def run() -> list[dict[str, Any]]:
    """How many replay as the same answer, of those that were logged; the ratio is their share."""
    with tempfile.TemporaryDirectory(prefix="car-damage-bench-") as name:
        target = Target(Settings.model_validate({"home": Path(name) / "home", "landing": {"folder": f"{name}/landing"}}))
        photos = _land(Path(name) / "landing")
        _register(target, Path(name), next(iter(photos.values())))
        SCORE.work(ScoreRequest("bench"), target, silent)
        logged = answers_of(target)
        again = list(replayed(logged, photos, target))
    differences = [one.difference for one in again if one.difference is not None]
    return [
        {
            "name": "logged answers that replay as the same answer",
            "value": float(sum(one.equal for one in again)),
            "unit": "answers",
            "baseline": f"{len(logged)} logged; largest difference of a probability {max(differences):.1e}",
            "ratio": sum(one.equal for one in again) / len(logged),
        }
    ]


def _land(folder: Path) -> dict[str, bytes]:
    """Draw photos; returns sha256 -> bytes."""
    import hashlib

    photos = {}
    for number in range(PHOTOS):
        label = CLASSES[number % len(CLASSES)]
        data = demo_photos.photo(label, seed=number)
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:05}.jpg").write_bytes(data)
        photos[hashlib.sha256(data).hexdigest()] = data
    return photos


def _register(target: Target, folder: Path, example: bytes) -> None:
    run = target.tracking.start("bench", {KEY_TAG: "bench"})
    mlflow = fluent(target.settings)
    with mlflow.start_run(run_id=run):
        uri = package.log(network(folder), example, CLASSES, "car_damage_classifier")
    target.tracking.finish(run, uri)
    target.registry.create(run, uri, {}, "")
    target.registry.move(CHAMPION, 1)
