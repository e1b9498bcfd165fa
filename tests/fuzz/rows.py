"""A model that decodes photos as the registered one does, and answers the same for each. MLflow runs this file when it loads the model."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import numpy as np

from car_damage.model.served.served_model import PhotoClassifier
from car_damage.photo.limits import Limits


class Rows(PhotoClassifier):
    def load_context(self, context: Any) -> None:
        self.classes = ("minor", "moderate", "major")
        self._limits = Limits(max_pixels=4_000_000)
        self._pool = ThreadPoolExecutor(2)

    def answer(self, photos: list[np.ndarray]) -> np.ndarray:
        return np.full((len(photos), len(self.classes)), 1 / 3)


mlflow.models.set_model(Rows())
