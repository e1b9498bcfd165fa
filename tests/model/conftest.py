"""Shared by the model tests: drawn photos on disk with their silver table, and MLflow databases copied from one template."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import real_photos
from benchmarks.trials_features import WEIGHTS
from car_damage.adapters.mlflow.client import client
from car_damage.model.pixels.photos import Photos
from car_damage.photo.decoder import decode, inspect
from car_damage.platform import Target
from car_damage.ports import RunContents
from car_damage.settings import Settings
from deployments import demo_photos
from tests import small_model

CLASSES = ("minor", "moderate", "major")


@dataclass(frozen=True)
class World:
    """A target in its own folder, with photos and a silver table."""

    target: Target
    folder: Path
    silver_version: int
    rows: pa.Table


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow has migrated. Tests copy it, because a migration takes two seconds."""
    home = tmp_path_factory.mktemp("mlflow-template")
    client(Settings(home=home)).search_experiments()
    return home / "mlflow.db"


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model.network(tmp_path_factory.mktemp("network"))


@pytest.fixture
def contents(network_file: Path, tmp_path: Path) -> RunContents:
    return small_model.run_of(network_file, tmp_path / "run")


def home_in(folder: Path, template: Path) -> Path:
    home = folder / "home"
    home.mkdir()
    shutil.copyfile(template, home / "mlflow.db")
    return home


@pytest.fixture
def home(tmp_path: Path, mlflow_template: Path) -> Path:
    return home_in(tmp_path, mlflow_template)


def build_world(folder: Path, home: Path, *, train: int, validation: int, test: int, classes: Sequence[str]) -> World:
    """A silver table with these numbers of photos per class and split. Training takes two epochs."""
    rows = []
    for label in classes:
        splits = ["train"] * train + ["validation"] * validation + ["test"] * test
        for number, split in enumerate(splits):
            path = folder / "photos" / label / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(demo_photos.photo(label, number))
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            phash = inspect(path.read_bytes()).phash
            rows.append({"path": str(path), "label": label, "height": 240, "width": 320, "sha256": sha256, "phash": phash, "split": split})
    settings = Settings(home=home, training={"epochs": 2})  # type: ignore[arg-type]  # pydantic converts
    target = Target(settings)
    table = pa.Table.from_pylist(rows)
    version = target.tables.merge(settings.tables.silver, table, ["sha256"])
    return World(target, folder / "photos", version, table)


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Callable[..., World]:
    def build(train: int = 3, validation: int = 1, test: int = 1, classes: Sequence[str] = CLASSES) -> World:
        return build_world(tmp_path, home, train=train, validation=validation, test=test, classes=classes)

    return build


@pytest.fixture(scope="session")
def place() -> Path:
    """The folder of the real photos, beside which are the weights of a backbone."""
    place = real_photos.folder()
    if place is None:
        pytest.skip(f"no real photos at {real_photos.FOLDER}")
    if not (place.parent / WEIGHTS).exists():
        pytest.skip(f"no weights at {place.parent / WEIGHTS}")
    return place


@pytest.fixture(scope="session")
def drawn() -> Callable[[int, int], Photos]:
    """`drawn(n, seed)` returns n drawn photos that cycle through the classes."""

    def draw(n: int, seed: int = 0) -> Photos:
        labels = np.arange(n) % 3
        pixels = np.stack([decode(demo_photos.photo(CLASSES[label], seed + number)).pixels for number, label in enumerate(labels)])
        return Photos(pixels, labels.astype(np.int64), tuple(map(str, range(n))), tuple(f"{number}.jpg" for number in range(n)))

    return draw
