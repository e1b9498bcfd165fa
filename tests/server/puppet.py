"""A registered model without TensorFlow. Its config decides whether it answers, fails to load, or hangs while it loads. A request with
the photo `grow` makes it take more and more memory.

MLflow runs this file as code in processes that do not have our modules.
"""

import time
from typing import Any

import mlflow
import pandas as pd


class Puppet(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def load_context(self, context: Any) -> None:
        self._probabilities = dict(context.model_config["probabilities"])
        if context.model_config["start"] == "raise":
            raise RuntimeError("the puppet was told not to start")
        while context.model_config["start"] == "hang":
            print("the puppet hangs", flush=True)  # noqa: T201 - the build log records it
            time.sleep(60)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        del context, params
        hoard = []
        while model_input["image"][0] == "grow":
            hoard.append(b"x" * (16 << 20))
            time.sleep(0.02)
        best = max(self._probabilities, key=lambda name: self._probabilities[name])
        row = {"label": best, "probability": self._probabilities[best]}
        row |= {f"probability_{name}": value for name, value in self._probabilities.items()}
        return pd.DataFrame([row | {"sha256": "", "width": 1, "height": 1, "brightness": 0.5}] * len(model_input))


mlflow.models.set_model(Puppet())
