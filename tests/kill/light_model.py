"""A registered model that looks up a photo's hash and returns the prediction made after training.

It replaces the Keras model in a test that kills and repeats the pipeline a hundred times, so that no process has to
load TensorFlow for a model. MLflow runs this file as code in processes that do not have our modules.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class Remembered(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def load_context(self, context: Any) -> None:
        self._known = json.loads(Path(context.artifacts["predictions"]).read_text())
        self._classes = list(context.model_config["classes"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        del context, params
        rows = []
        for image in model_input["image"]:
            sha256 = hashlib.sha256(base64.b64decode(image)).hexdigest()
            probabilities = self._known.get(sha256, [1.0] + [0.0] * (len(self._classes) - 1))
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            row = {"label": self._classes[best], "probability": probabilities[best]}
            row |= {f"probability_{name}": value for name, value in zip(self._classes, probabilities, strict=True)}
            rows.append(row | {"sha256": sha256, "width": 1, "height": 1, "brightness": 0.5})
        return pd.DataFrame(rows)


mlflow.models.set_model(Remembered())
