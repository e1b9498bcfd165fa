"""A registered model that looks up a photo's hash and returns the prediction made after training.

It replaces the Keras model in a test that kills and repeats the pipeline a hundred times, so that no process has to
load TensorFlow for a model. MLflow runs this file as code in processes that do not have our modules.

It is also the program of a model's process, in place of car_damage/model/served/host.py, with the same commands and bytes: MLflow's
import, to fetch a model and again to serve it, would cost six processor seconds in each of two hundred starts.

    python -P light_model.py fetch URI FOLDER
    python -P light_model.py serve FOLDER SOCKET
"""

import base64
import hashlib
import json
import os
import shutil
import socketserver
import sqlite3
import struct
import sys
import threading
from pathlib import Path
from typing import Any

PING = 2**32 - 1
"""As in car_damage/model/served/scoring.py."""


class Answers:
    """The predictions that a training made, for photos that it knows; for all others, that they are of the first class."""

    def __init__(self, predictions: Path) -> None:
        told = json.loads(predictions.read_text())
        self._classes, self._known = told["classes"], told["known"]

    def to(self, image: str) -> dict[str, Any]:
        """The row that a model answers to a photo in base64."""
        sha256 = hashlib.sha256(base64.b64decode(image)).hexdigest()
        probabilities = self._known.get(sha256, [1.0] + [0.0] * (len(self._classes) - 1))
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        row = {"label": self._classes[best], "probability": probabilities[best]}
        row |= {f"probability_{name}": value for name, value in zip(self._classes, probabilities, strict=True)}
        return row | {"sha256": sha256, "width": 1, "height": 1, "brightness": 0.5}


class Requests(socketserver.StreamRequestHandler):
    """A connection of the endpoint server."""

    answers: Answers

    def handle(self) -> None:
        while head := self.rfile.read(8):
            kind, size = struct.unpack(">II", head)
            body = b""
            if kind != PING:
                self.rfile.read(kind)
                rows = [self.answers.to(record["image"]) for record in json.loads(self.rfile.read(size))["dataframe_records"]]
                body = json.dumps({"predictions": rows}).encode()
            self.wfile.write(struct.pack(">HII", 200, 16, len(body)) + b"application/json" + body)


def fetch(uri: str, folder: Path) -> None:
    """Copy the files of a version, which MLflow's database says where to find."""
    name, version = uri.removeprefix("models:/").rsplit("/", 1)
    database = sqlite3.connect(os.environ["MLFLOW_REGISTRY_URI"].removeprefix("sqlite:///"))
    [[files]] = database.execute("SELECT storage_location FROM model_versions WHERE name = ? AND version = ?", (name, version))
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(files, partial)
    partial.rename(folder)


def serve(folder: Path, socket: str) -> None:
    """Answer requests until the endpoint server ends this process."""
    Requests.answers = Answers(folder / "artifacts" / "predictions.json")
    Path(socket).unlink(missing_ok=True)
    with socketserver.ThreadingUnixStreamServer(socket, Requests) as server:
        server.daemon_threads = True
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.serve_forever()


def end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    fetch(sys.argv[2], Path(sys.argv[3])) if sys.argv[1] == "fetch" else serve(Path(sys.argv[2]), sys.argv[3])
else:
    import mlflow
    import pandas as pd

    class Remembered(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def load_context(self, context: Any) -> None:
            self._answers = Answers(Path(context.artifacts["predictions"]))

        def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
            del context, params
            return pd.DataFrame([self._answers.to(image) for image in model_input["image"]])

    mlflow.models.set_model(Remembered())
