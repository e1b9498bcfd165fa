"""The registered model: a photo in, a severity out.

MLflow runs this file as code when the model is logged and when it is loaded ("models from code"), so nothing is
unpickled. Besides MLflow and ONNX Runtime it imports only modules that the model's own folder contains. So a model
always uses the decoder that it was trained with (see car_damage.model.served.package). A model whose network could not be exported to the
format ONNX imports TensorFlow instead.

Input:  one column, `image`: the photo's file in base64, also as a data URI. The limits of a usable photo, and what happens to
        it before the network sees it, come from the model's config; without them the decoder's defaults apply.
Params: coverage, the share of photos of each class whose answer must not exclude their class; without it, the model's own, or the one
        that the environment variable MODEL_COVERAGE raises it to. explain: also
        answer with the column map, where in the photo the damage was seen (see car_damage.model.places).
Output: label, probability, probability_<class> for each class, calibrated; classes, those that cannot be excluded, and review, whether
        a person must look (see car_damage.model.answering); and values for monitoring: sha256 of the file, width and height of the
        upright photo, brightness, sharpness and warmth of what the network sees (see car_damage.photo.signals).

One bad row makes the model refuse the whole request, with INVALID_PARAMETER_VALUE, the row and the reason. `predict` raises only
MlflowException: for other errors, MLflow's scoring application would send the stack trace to the caller.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE

from car_damage.errors import UnusablePhoto
from car_damage.model import places
from car_damage.model.answering import Answering, needs_a_person
from car_damage.photo.columns import probability_column
from car_damage.photo.decoder import decode
from car_damage.photo.encoded import decoded
from car_damage.photo.limits import SIZE, Limits
from car_damage.photo.preparation import Preparation
from car_damage.photo.signals import Signals, signals

MAX_ROWS = 256
"""Photos in one request, at most: 256 decoded photos are 39 MB."""
EXPLAINED = 8
"""Photos in one request that asks for maps, at most: each costs up to ten times as much as an answer."""
CHUNK = 8
"""Photos in one call of the network, at most. The maps of more photos leave the processor's caches: 32 took a tenth more of its time."""

RAISED = "MODEL_COVERAGE"
"""Environment variable with the coverage of requests that ask for none, in place of the model's own. An endpoint sets it while the model is
worse than it was. MLflow gives requests that ask for none the model's own coverage, so one that asks for exactly this one gets it, too."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Row:
    """A decoded photo of a request."""

    pixels: np.ndarray
    sha256: str
    width: int
    height: int
    signals: Signals


class PhotoClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types
    """Decodes photos and classifies them with the network."""

    def load_context(self, context: Any) -> None:
        """Load the network.

        Raises:
            MlflowException: the network does not have one output per class.
        """
        self.classes = tuple(str(name) for name in context.model_config["classes"])
        self._limits = Limits(**context.model_config.get("limits", {}))
        self._preparation = Preparation(**context.model_config.get("preparation", {}))
        self._grid = places.GRID if context.model_config.get("small") else places.COARSE
        artifacts, threads = context.artifacts, _threads()
        self._answering = Answering.read(Path(artifacts["answering"])) if "answering" in artifacts else Answering()
        self._raised = _coverage({"coverage": float(os.environ[RAISED])}) if os.environ.get(RAISED) else None
        self._network, outputs = _onnx_network(artifacts["onnx"], threads) if "onnx" in artifacts else _keras_network(artifacts["network"])
        if outputs != len(self.classes):
            raise MlflowException(
                f"the network has {outputs} outputs for the {len(self.classes)} classes {', '.join(self.classes)}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="decode")

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classify all rows, or refuse the request.

        Args:
            context: unused; `load_context` has loaded everything.
            model_input: one column, `image`, 1 to 256 rows.
            params: see `classify`.

        Returns:
            One row per photo, in the same order.

        Raises:
            MlflowException: as `classify`.
        """
        return pd.DataFrame(self.classify(model_input["image"].tolist(), params))

    def classify(self, images: list[Any], params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The same without tables of pandas, which would take longer than the network. The local endpoint calls it (see scoring.py).

        Args:
            images: 1 to 256 files in base64.
            params: coverage, above 0 and below 1; explain, for 1 to EXPLAINED photos.

        Returns:
            One row per photo, column -> value.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE for errors of the request, INTERNAL_ERROR for all others.
        """
        coverage, explain = self._asked(_coverage(params or {})), bool((params or {}).get("explain"))
        if explain and len(images) > EXPLAINED:
            raise _refusal(f"{len(images)} rows; a request with explain holds 1 to {EXPLAINED} photos")
        try:
            rows = self._rows(images)
            said = [self.answer([row.pixels for row in rows[at : at + CHUNK]]) for at in range(0, len(rows), CHUNK)]
            answers = self._answers(rows, np.concatenate(said), coverage)
            return (
                [answer | {"map": self._map(row, answer["label"])} for row, answer in zip(rows, answers, strict=True)]
                if explain
                else answers
            )
        except MlflowException:
            raise
        except Exception as error:  # noqa: BLE001 - no stack trace may reach the caller
            _log.exception("the model failed on a request")
            raise MlflowException(f"the model failed: {type(error).__name__}", error_code=INTERNAL_ERROR) from None

    def _asked(self, coverage: float | None) -> float | None:
        return self._raised or coverage if coverage in {None, self._answering.coverage} else coverage

    def _answers(self, rows: list[_Row], said: np.ndarray, coverage: float | None) -> list[dict[str, Any]]:
        """The columns of each row, from the probabilities of the network."""
        probabilities = self._answering.calibrated(said, [row.width * row.height for row in rows])
        sets = self._answering.sets(probabilities, coverage)
        review = needs_a_person(sets, probabilities)
        return [self._columns(*one) for one in zip(rows, probabilities.tolist(), sets.tolist(), review.tolist(), strict=True)]

    def _columns(self, row: _Row, probabilities: list[float], possible: list[bool], review: bool) -> dict[str, Any]:
        largest = max(probabilities)
        return {
            "label": self.classes[probabilities.index(largest)],
            "probability": largest,
            **{probability_column(name): probability for name, probability in zip(self.classes, probabilities, strict=True)},
            "classes": [name for name, is_possible in zip(self.classes, possible, strict=True) if is_possible],
            "review": review,
            "sha256": row.sha256,
            "width": row.width,
            "height": row.height,
            **row.signals._asdict(),
        }

    def _map(self, row: _Row, label: str) -> list[list[float]]:
        """Where in the photo the damage was seen, as rows of numbers from 0 to 1."""
        number, of_network = self.classes.index(label), getattr(self._network, "places", None)
        said = of_network(row.pixels[None]) if of_network else None
        seen = (
            places.by_hiding(row.pixels, number, self.answer, self._grid, CHUNK) if said is None else places.from_network(said[0], number)
        )
        return [[float(place) for place in line] for line in seen]

    def answer(self, photos: list[np.ndarray]) -> np.ndarray:
        """The network's probabilities, (n, classes) float64, of n photos, (224, 224, 3) uint8, from one call of the network."""
        return np.asarray(self._network(np.stack(photos)), dtype=np.float64)

    def _rows(self, images: list[Any]) -> list[_Row]:
        if not 1 <= len(images) <= MAX_ROWS:
            raise _refusal(f"{len(images)} rows; a request holds 1 to {MAX_ROWS} photos")
        if len(images) == 1:
            return [_row(0, images[0], self._limits, self._preparation)]
        return list(self._pool.map(_row, range(len(images)), images, repeat(self._limits), repeat(self._preparation)))


def _coverage(params: dict[str, Any]) -> float | None:
    """What the request asks for; None: nothing."""
    coverage = params.get("coverage")
    if coverage is not None and not 0 < coverage < 1:
        raise _refusal(f"coverage is {coverage}, and must be above 0 and below 1")
    return coverage


def _threads() -> int:
    """Threads that the environment allows; 0: it names no number. On Spark's machines each task has a model, and a share of the cores."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdecimal() else 0


def _onnx_network(file: str, threads: int) -> tuple[Callable[[np.ndarray], Any], int]:
    """The network, and the number of its outputs."""
    from car_damage.model.onnx_network import OnnxNetwork

    network = OnnxNetwork(Path(file), threads)
    return network, network.output_shape[-1]


def _keras_network(file: str) -> tuple[Callable[[np.ndarray], Any], int]:
    """Load the network in safe mode, without its optimiser, and compile one function for any number of photos."""
    import keras
    import tensorflow as tf

    network = keras.saving.load_model(file, compile=False, safe_mode=True)
    # The concrete function avoids Keras' predict loop (30 ms for one photo), and is traced once for all batch sizes.
    call = tf.function(
        lambda photos: network(photos, training=False),
        input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)],
        autograph=False,
    ).get_concrete_function()
    return lambda photos: call(tf.constant(photos)), network.output_shape[-1]


def _row(index: int, image: Any, limits: Limits, preparation: Preparation) -> _Row:
    if not isinstance(image, str):
        raise _refusal(f"row {index}: image must be a string, the photo's file in base64")
    try:
        data = decoded(image)
    except ValueError as error:
        raise _refusal(f"row {index}: image is not base64: {error}") from None
    try:
        photo = decode(data, limits, preparation)
    except UnusablePhoto as error:
        raise _refusal(f"row {index}: {error}") from None
    return _Row(photo.pixels, hashlib.sha256(data).hexdigest(), photo.width, photo.height, signals(photo.pixels))


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(PhotoClassifier())
