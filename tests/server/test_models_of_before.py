"""A model that was registered when all modules of this package were in one folder still loads, is judged and is served."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.evaluation import confusion_matrix
from car_damage.model.run_files import PREDICTIONS_FILE, write_predictions
from car_damage.model.served.process import answers
from car_damage.photo.decoder import decode
from car_damage.pipeline import RegisterRequest
from car_damage.ports import ModelVersion
from car_damage.settings import Promotion, Settings
from car_damage.stage import silent
from car_damage.stages import register
from tests.fakes import Endpoint, Runs, Table, Versions, World, sha256
from tests.fakes import Photos as Files
from tests.server.conftest import CLASSES, Models, Server, jpeg, network_answer

PACK = Path(__file__).parent / "before" / "pack.py"


@pytest.fixture(scope="module")
def of_before(tmp_path_factory: pytest.TempPathFactory, models: Models, photo: bytes) -> Path:
    """The folder of the saved model, which contains the network of version 1."""
    folder = tmp_path_factory.mktemp("before")
    (folder / "photo").write_bytes(photo)
    command = [sys.executable, "-P", str(PACK), str(folder / "model"), str(models.keras_files[1]), str(folder / "photo"), *CLASSES]
    packed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert packed.returncode == 0, packed.stderr
    code = folder / "model" / "code" / "car_damage"
    assert {path.name for path in code.glob("*.py")} == {"__init__.py", "errors.py", "reasons.py", "containers.py", "images.py"}
    return folder / "model"


@pytest.fixture(scope="module")
def expected(models: Models, photo: bytes) -> list[float]:
    """The network's own probabilities for the photo."""
    return network_answer(models.keras_files[1], decode(photo).pixels)


def test_a_model_of_before_is_judged_by_its_own_answers(of_before: Path, photo: bytes, expected: list[float]) -> None:
    answered, refused = answers(of_before, [photo, jpeg(60, 40)], timeout=120)
    assert list(answered.probabilities) == list(CLASSES)
    assert list(answered.probabilities.values()) == pytest.approx(expected, abs=1e-4)
    assert answered.label == CLASSES[expected.index(max(expected))]
    assert (answered.classes, answered.review) == (None, None)
    assert refused.refused == "too small: 60x40, each side must have 48 pixels"


def test_a_candidate_is_judged_against_a_champion_of_before(of_before: Path, models: Models) -> None:
    photos = {f"/landing/{number}.jpg": jpeg(320, 240, turn=60 * number) for number in range(4)}
    truth = np.array([0, 1, 2, 0])
    rows = {
        "path": list(photos),
        "label": [CLASSES[number] for number in truth],
        "sha256": [*map(sha256, photos.values())],
        "phash": [int(sha256(data)[:15], 16) for data in photos.values()],
        "width": [300] * len(photos),
        "height": [200] * len(photos),
        "split": ["test"] * 4,
    }
    decoded = Photos(np.zeros((4, 1, 1, 3), np.uint8), truth, tuple(rows["sha256"]), tuple(photos))
    candidate = write_predictions(decoded, np.eye(3)[truth], CLASSES)  # right on every photo
    registry = Versions()
    registry.add(1, decision="promote", judged_against="none", silver_version="1")
    registry.aliases["champion"] = 1
    registry.versions[2] = ModelVersion(2, "run")
    registry.download = lambda model_uri, into: of_before  # type: ignore[method-assign]
    runs = Runs({("run", PREDICTIONS_FILE): candidate})
    here = World(Settings(promotion=Promotion(recall_floor={})), Files(photos), registry, Endpoint({}), runs, Table(pa.table(rows)))
    report = register.work(RegisterRequest("flow", "run", "models:/m-1", 1), here, silent)  # type: ignore[arg-type]

    network = [int(np.argmax(network_answer(models.keras_files[1], decode(data).pixels))) for data in photos.values()]
    assert report.evidence is not None
    assert report.evidence.champion is not None
    assert (report.champion, report.evidence.candidate.macro_f1) == (1, 1.0)
    assert report.evidence.champion.confusion == confusion_matrix(truth, np.array(network), 3).tolist()


def test_a_model_of_before_is_served(of_before: Path, live: Server, models: Models, photo: bytes, expected: list[float]) -> None:
    import mlflow

    client = mlflow.MlflowClient(models.uri, models.uri)
    version = int(client.create_model_version(live.settings.tracking.model, of_before.as_uri()).version)
    live.serving.put(version)
    assert live.settled().served == version
    (answer,) = live.serving.query([photo])
    assert answer.served_by == f"car_damage_classifier-{version}"
    assert (answer.classes, answer.review) == (None, None)
    assert list(answer.probabilities.values()) == pytest.approx(expected, abs=1e-4)
