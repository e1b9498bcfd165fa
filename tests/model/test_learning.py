"""After training: the model has learnt the classes of drawn photos, and predicts the same for their mirror images."""

import numpy as np
import pytest

from car_damage.model.networks import training
from car_damage.model.pixels.photos import COLUMNS, Photos, load
from car_damage.photo.decoder import decode
from car_damage.pipeline import ValidateRequest, silver_request
from car_damage.platform import Target
from car_damage.settings import Landing, Settings
from car_damage.stage import silent
from car_damage.stages import silver, validate
from deployments import demo_photos

CLASSES = ("minor", "moderate", "major")
HELD_OUT = 20
"""Photos per class, drawn from seeds that training does not use."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the predictions of a model with default settings for held-out photos and for their mirror images."""
    folder = tmp_path_factory.mktemp("learning")
    demo_photos.write(folder / "landing", unusable=False)
    settings = Settings(home=folder, landing=Landing(folder=str(folder / "landing")))
    target = Target(settings)
    report = silver.work(silver_request(ValidateRequest("flow"), validate.work(ValidateRequest("flow"), target, silent)), target, silent)
    rows, _ = target.tables.read(settings.tables.silver, COLUMNS, report.silver_version)
    with load(rows, target.files, settings.images.limits(), CLASSES, 2, silent, 1 << 40, target.clock) as photos:
        trained = training.train(photos.part("train"), photos.part("validation"), len(CLASSES), settings.training, silent)
    labels = np.repeat(np.arange(len(CLASSES)), HELD_OUT)
    pixels = np.stack([decode(demo_photos.photo(CLASSES[label], 60_000 + seed)).pixels for seed, label in enumerate(labels)])

    def predict(of: np.ndarray) -> np.ndarray:
        names = tuple(map(str, range(len(of))))
        return np.asarray(training.predict(trained.network, Photos(of, labels, names, names)).argmax(axis=1))

    return labels, predict(pixels), predict(np.ascontiguousarray(pixels[:, :, ::-1]))


def test_a_model_with_the_default_settings_is_far_better_than_the_majority_class(answers: tuple[np.ndarray, ...]) -> None:
    labels, predicted, _ = answers
    assert (predicted == labels).mean() >= 0.6
    assert (predicted == labels)[labels == CLASSES.index("major")].mean() >= 0.7


def test_a_mirror_image_is_mostly_told_the_same(answers: tuple[np.ndarray, ...]) -> None:
    _, predicted, mirrored = answers
    assert (predicted == mirrored).mean() >= 0.8
