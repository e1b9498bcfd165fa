"""Packages a trained network as the MLflow model to be registered.

The model contains everything that its answers depend on: the network as .onnx and .keras, what is done to its probabilities, the classes
in the order of its outputs, the decoder (`code_paths`: a folder car_damage/ with errors.py, photo/ and three modules of model/), its limits
and its preparation, a signature, an example photo, and the exact versions of the packages that it was tested with. So a serving container
needs no package of ours, and, where the network answers by ONNX Runtime, no TensorFlow.
"""

import base64
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from car_damage.machine import Scratch
from car_damage.model.answering import Answering
from car_damage.packages import installed, tensorflow
from car_damage.photo.columns import probability_column
from car_damage.photo.limits import Limits
from car_damage.photo.preparation import Preparation
from car_damage.photo.signals import Signals

_HERE = Path(__file__).parent
_PACKAGE = _HERE.parents[1]


@dataclass(frozen=True)
class NetworkFiles:
    """A network: input (n, 224, 224, 3) uint8, output (n, classes) float32, each row adds up to 1."""

    keras: Path
    onnx: Path | None
    """The same network, with which the model answers. None: the model answers by Keras."""
    answering: Path | None = None
    """What is done to its probabilities, in a file of `Answering.write`. None: nothing, and no class can be excluded."""
    small: bool = False
    """It answers in so little time that a map may ask it once for each place, as the network cnn does in the format ONNX."""


def log(
    network: NetworkFiles,
    example: bytes,
    classes: Sequence[str],
    name: str,
    *,
    limits: Limits = Limits(),
    preparation: Preparation = Preparation(),
) -> str:
    """Log the model to the active MLflow run.

    Args:
        network: its files.
        example: the bytes of a photo that the model can classify.
        classes: in the order of the outputs.
        name: of the logged model; MLflow allows none of / : . % " ' in it.
        limits: the limits of a usable photo, which were also used to validate the training photos.
        preparation: that of the training photos.

    Returns:
        The model's URI, `models:/m-...`.
    """
    import mlflow

    with _parts(network, example, classes, limits, preparation) as parts:
        return str(mlflow.pyfunc.log_model(name=name, **parts).model_uri)


def save(folder: Path, network: NetworkFiles, example: bytes, classes: Sequence[str], *, limits: Limits = Limits()) -> None:
    """Write the model that `log` would log to a folder that does not exist yet, without an MLflow run."""
    import mlflow

    with _parts(network, example, classes, limits, Preparation()) as parts:
        mlflow.pyfunc.save_model(path=str(folder), **parts)


def requirements(*, onnx: bool) -> list[str]:
    """The packages of a model, each with the exact version that is installed here. It answers by ONNX Runtime, or else by Keras."""
    import mlflow

    runtime = ("onnxruntime",) if onnx else (tensorflow() or "tensorflow", "keras")
    # mlflow-skinny has the scoring application, and is without the packages of MLflow's own server.
    return [f"mlflow-skinny=={mlflow.__version__}"] + [
        f"{name}=={installed(name)}" for name in (*runtime, "pillow", "pi-heif", "numpy", "pandas")
    ]


@contextmanager
def _parts(
    network: NetworkFiles, example: bytes, classes: Sequence[str], limits: Limits, preparation: Preparation
) -> Iterator[dict[str, Any]]:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    inputs = Schema([ColSpec("string", "image")])
    outputs = Schema(
        [ColSpec("string", "label"), ColSpec("double", "probability")]
        + [ColSpec("double", probability_column(name)) for name in classes]
        + [ColSpec(Array(DataType.string), "classes"), ColSpec("boolean", "review")]
        + [ColSpec("string", "sha256"), ColSpec("long", "width"), ColSpec("long", "height")]
        + [ColSpec("double", name) for name in Signals._fields]
        + [ColSpec(Array(Array(DataType.double)), "map", required=False)]
    )
    files = {"network": network.keras, "onnx": network.onnx, "answering": network.answering}
    answering = Answering.read(network.answering) if network.answering else Answering()
    params = ParamSchema([ParamSpec("coverage", "double", answering.coverage), ParamSpec("explain", "boolean", default=False)])
    with Scratch("package") as temporary:
        package = temporary / "car_damage"
        # These modules import only packages of `requirements`. A model needs neither thumbnails nor what a preparation is learnt from.
        left_out = shutil.ignore_patterns("__pycache__", "thumbnails.py", "compression.py")
        shutil.copytree(_PACKAGE / "photo", package / "photo", ignore=left_out)
        shutil.copyfile(_PACKAGE / "errors.py", package / "errors.py")
        (package / "model").mkdir()
        for module in ("onnx_network.py", "answering.py", "places.py"):
            shutil.copyfile(_PACKAGE / "model" / module, package / "model" / module)
        for folder in (package, package / "model"):
            (folder / "__init__.py").touch()
        yield {
            "python_model": str(_HERE / "served_model.py"),
            "artifacts": {name: str(file) for name, file in files.items() if file},
            "model_config": {
                "classes": list(classes),
                "limits": asdict(limits),
                "preparation": asdict(preparation),
                "small": network.small,
            },
            "signature": ModelSignature(inputs=inputs, outputs=outputs, params=params),
            "input_example": pd.DataFrame({"image": [base64.b64encode(example).decode()]}),
            # Explicit, because MLflow would load the model in a subprocess to find the requirements.
            "pip_requirements": requirements(onnx=network.onnx is not None),
            "code_paths": [str(package)],
        }
