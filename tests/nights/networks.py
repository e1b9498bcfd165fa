"""Networks that learn in no time, and are honest: they remember what they were trained on, and guess the rest.

A network answers a photo that resembles one of its training photos with the label that it had there, as a network that has
learnt a photo by heart does. So test photos that a network was trained on show in its score. All other photos it gets right
with a probability that grows with the epochs of its training; what is hard for one network is mostly hard for the next.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from car_damage.model.networks.training import TrainingResult
from car_damage.model.pixels.photos import Photos
from car_damage.settings import Training
from tests.nights.photos import CLASSES, Photo

SHARED = 0.7
"""Share of photos that are as hard for one network as for every other."""
BEST, LUCK = 0.9, 0.04
"""Quality after a very long training, and the standard deviation from one training to the next."""
SURE = 0.8
"""Probability of the label that a network gives."""


@dataclass(frozen=True)
class Network:
    """What a network has learnt."""

    seed: str
    quality: float
    """Probability of the right answer to a photo that it was not trained on."""
    learnt: Mapping[str, str]
    """Subject of a training photo -> its label there."""
    classes: Sequence[str]
    seen: Sequence[str]
    """sha256 of the photos that it was trained on, or that decided when the training stopped."""

    def says(self, photo: Photo) -> str:
        """The label that it gives to a photo."""
        if photo.subject in self.learnt:
            return self.learnt[photo.subject]
        hard = random.Random(f"hard {photo.subject}")
        chance = hard.random() if hard.random() < SHARED else random.Random(f"{self.seed} {photo.subject}").random()
        known = [label for label in CLASSES if label in set(self.learnt.values())]
        if chance < self.quality and photo.label in known:
            return photo.label
        others = [label for label in known if label != photo.label]
        return hard.choice(others or known)

    def probabilities(self, photo: Photo) -> dict[str, float]:
        said = self.says(photo)
        rest = (1 - SURE) / (len(self.classes) - 1)
        return {label: SURE if label == said else rest for label in self.classes}

    def true_score(self, photos: int = 300) -> float:
        """Macro-F1 on photos that nobody has seen."""
        fresh = [Photo(b"", f"unseen {number}", CLASSES[number % 3]) for number in range(photos)]
        said = [self.says(photo) for photo in fresh]
        scores = []
        for label in CLASSES:
            hits = sum(one == label == photo.label for one, photo in zip(said, fresh, strict=True))
            scores.append(2 * hits / (said.count(label) + photos / 3))
        return sum(scores) / len(scores)

    def save(self, file: Path) -> None:
        """Take the place of `keras.Model.save`."""
        file.write_text(json.dumps(asdict(self)))

    @staticmethod
    def load(file: Path) -> "Network":
        return Network(**json.loads(file.read_text()))


def train(train: Photos, validation: Photos, classes: Sequence[str], settings: Training, subjects: Mapping[str, Photo]) -> TrainingResult:
    """Take the place of `car_damage.model.networks.training.train`."""
    labelled = sorted((sha256, classes[label]) for sha256, label in zip(train.sha256s, train.labels, strict=True))
    identity = f"{settings.seed} {settings.epochs} {labelled}"
    quality = BEST - 0.45 * 0.5 ** (settings.epochs / 20) + random.Random(identity).gauss(0, LUCK)
    learnt = {subjects[sha256].subject: label for sha256, label in labelled}
    network = Network(str(random.Random(identity).random()), quality, learnt, tuple(classes), [*train.sha256s, *validation.sha256s])
    curve = {name: [1.0, 0.5] for name in ("loss", "val_loss", "accuracy", "val_accuracy")}
    return TrainingResult(network, curve, 2)  # type: ignore[arg-type]


def predict(network: Network, photos: Photos, subjects: Mapping[str, Photo]) -> np.ndarray:
    """Take the place of `car_damage.model.networks.training.predict`: (n, classes) probabilities."""
    rows = [list(network.probabilities(subjects[sha256]).values()) for sha256 in photos.sha256s]
    return np.array(rows, dtype=float).reshape(len(photos), len(network.classes))
