"""Packages a trained network as the MLflow model to be registered.

The model contains everything that its answers depend on: the .keras file, the classes in the order of its outputs, the
decoder (`code_paths`: a folder car_damage/ with errors.py and photo/) and its limits, a signature, an example
photo, and the exact versions of the packages that it was tested with. So a serving container needs no package of ours.
"""

import base64
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from car_damage.machine import Scratch
from car_damage.packages import installed, tensorflow
from car_damage.photo.columns import probability_column
from car_damage.photo.limits import Limits

_HERE = Path(__file__).parent
_PACKAGE = _HERE.parent


def log(keras_file: Path, example: bytes, classes: Sequence[str], name: str, *, limits: Limits = Limits()) -> str:
    """Log the model to the active MLflow run.

    Args:
        keras_file: the network: input (n, 224, 224, 3) uint8, output (n, classes) softmax.
        example: the bytes of a photo that the model can classify.
        classes: in the order of the outputs.
        name: of the logged model; MLflow allows none of / : . % " ' in it.
        limits: the limits of a usable photo, which were also used to validate the training photos.

    Returns:
        The model's URI, `models:/m-...`.
    """
    import mlflow

    with _parts(keras_file, example, classes, limits) as parts:
        return str(mlflow.pyfunc.log_model(name=name, **parts).model_uri)


def save(folder: Path, keras_file: Path, example: bytes, classes: Sequence[str], *, limits: Limits = Limits()) -> None:
    """Write the model that `log` would log to a folder that does not exist yet, without an MLflow run."""
    import mlflow

    with _parts(keras_file, example, classes, limits) as parts:
        mlflow.pyfunc.save_model(path=str(folder), **parts)


def requirements() -> list[str]:
    """The packages that the model needs, each with the exact version that is installed here."""
    import mlflow

    names = (tensorflow() or "tensorflow", "keras", "pillow", "pi-heif", "numpy", "pandas")
    # The full mlflow, because mlflow-skinny has no scoring application. Both have the same version.
    return [f"mlflow=={mlflow.__version__}"] + [f"{name}=={installed(name)}" for name in names]


@contextmanager
def _parts(keras_file: Path, example: bytes, classes: Sequence[str], limits: Limits) -> Iterator[dict[str, Any]]:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = Schema([ColSpec("string", "image")])
    outputs = Schema(
        [ColSpec("string", "label"), ColSpec("double", "probability")]
        + [ColSpec("double", probability_column(name)) for name in classes]
        + [ColSpec("string", "sha256"), ColSpec("long", "width"), ColSpec("long", "height"), ColSpec("double", "brightness")]
    )
    with Scratch("package") as temporary:
        package = temporary / "car_damage"
        # errors.py and photo/ import only Pillow, pi-heif and numpy; a model needs no thumbnails.
        shutil.copytree(_PACKAGE / "photo", package / "photo", ignore=shutil.ignore_patterns("__pycache__", "thumbnails.py"))
        shutil.copyfile(_PACKAGE / "errors.py", package / "errors.py")
        (package / "__init__.py").touch()
        yield {
            "python_model": str(_HERE / "served_model.py"),
            "artifacts": {"network": str(keras_file)},
            "model_config": {"classes": list(classes), "limits": asdict(limits)},
            "signature": ModelSignature(inputs=inputs, outputs=outputs),
            "input_example": pd.DataFrame({"image": [base64.b64encode(example).decode()]}),
            # Explicit, because MLflow would load the model in a subprocess to find the requirements.
            "pip_requirements": requirements(),
            "code_paths": [str(package)],
        }
