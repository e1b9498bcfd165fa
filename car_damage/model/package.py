"""Packs a trained network into the MLflow model that is registered.

The model holds everything that an answer depends on: the .keras file, the classes in the order of its outputs, the
decoder (`code_paths`: a folder car_damage/ with the modules of `TRAVELS`) and its limits, a signature, a
photo as its example, and the exact versions it was tested with. So a serving container needs nothing of ours from anywhere.
"""

import base64
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from car_damage.machine import Scratch
from car_damage.photo.limits import Limits

TRAVELS = ("errors.py", "photo/reasons.py", "photo/limits.py", "photo/containers.py", "photo/decoder.py")
"""Modules of this package that go along with a model. They import nothing but Pillow and numpy."""

_HERE = Path(__file__).parent
_PACKAGE = _HERE.parent
_USUAL = Limits()


def log(keras_file: Path, example: bytes, classes: Sequence[str], name: str, *, limits: Limits = _USUAL) -> str:
    """Log the model to the active MLflow run.

    Args:
        keras_file: (n, 224, 224, 3) uint8 in, (n, classes) softmax out.
        example: a photo's file, which the model must be able to answer.
        classes: in the order of the outputs.
        name: of the logged model; MLflow takes none of / : . % " ' in it.
        limits: what the model takes for a photo; those that its photos were validated by.

    Returns:
        The model's URI, `models:/m-...`.
    """
    import mlflow

    with _parts(keras_file, example, classes, limits) as parts:
        return str(mlflow.pyfunc.log_model(name=name, **parts).model_uri)


def save(folder: Path, keras_file: Path, example: bytes, classes: Sequence[str], *, limits: Limits = _USUAL) -> None:
    """Write the same model to a folder that is not there yet, without any MLflow run."""
    import mlflow

    with _parts(keras_file, example, classes, limits) as parts:
        mlflow.pyfunc.save_model(path=str(folder), **parts)


def requirements() -> list[str]:
    """What the model needs, each at exactly the version that is installed here."""
    import mlflow

    tensorflow = next(name for name in ("tensorflow", "tensorflow-cpu", "tensorflow-intel") if _version(name))
    # mlflow-skinny has no scoring application, but the version of the whole.
    return [f"mlflow=={mlflow.__version__}"] + [f"{name}=={_version(name)}" for name in (tensorflow, "keras", "pillow", "numpy", "pandas")]


@contextmanager
def _parts(keras_file: Path, example: bytes, classes: Sequence[str], limits: Limits) -> Iterator[dict[str, Any]]:
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = Schema([ColSpec("string", "image")])
    outputs = Schema(
        [ColSpec("string", "label"), ColSpec("double", "probability")]
        + [ColSpec("double", f"probability_{name}") for name in classes]
        + [ColSpec("string", "sha256"), ColSpec("long", "width"), ColSpec("long", "height"), ColSpec("double", "brightness")]
    )
    with Scratch("package") as temporary:
        package = temporary / "car_damage"
        for module in TRAVELS:
            copy = package / module
            copy.parent.mkdir(parents=True, exist_ok=True)
            (copy.parent / "__init__.py").touch()
            shutil.copyfile(_PACKAGE / module, copy)
        yield {
            "python_model": str(_HERE / "served_model.py"),
            "artifacts": {"network": str(keras_file)},
            "model_config": {"classes": list(classes), "limits": asdict(limits)},
            "signature": ModelSignature(inputs=inputs, outputs=outputs),
            "input_example": pd.DataFrame({"image": [base64.b64encode(example).decode()]}),
            # Given, so that MLflow does not load the model in a subprocess to find out.
            "pip_requirements": requirements(),
            "code_paths": [str(package)],
        }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
