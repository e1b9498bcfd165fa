"""Packages a network as this package did when all its modules were in one folder: `car_damage/` beside this file.

`python -P pack.py FOLDER KERAS_FILE PHOTO CLASS...` writes the MLflow model to FOLDER, which must not exist. It needs a separate
process, because MLflow runs `served_model.py`, which imports the modules of that folder.
"""

import base64
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

BEFORE = Path(__file__).parent / "car_damage"
TRAVELS = ("errors.py", "reasons.py", "containers.py", "images.py")


def pack(folder: str, keras_file: str, photo: Path, classes: list[str], code: Path) -> None:
    import mlflow
    import pandas as pd
    from car_damage.images import Limits
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    outputs = Schema(
        [ColSpec("string", "label"), ColSpec("double", "probability")]
        + [ColSpec("double", f"probability_{name}") for name in classes]
        + [ColSpec("string", "sha256"), ColSpec("long", "width"), ColSpec("long", "height"), ColSpec("double", "brightness")]
    )
    mlflow.pyfunc.save_model(
        path=folder,
        python_model=str(BEFORE / "served_model.py"),
        artifacts={"network": keras_file},
        model_config={"classes": classes, "limits": asdict(Limits())},
        signature=ModelSignature(inputs=Schema([ColSpec("string", "image")]), outputs=outputs),
        input_example=pd.DataFrame({"image": [base64.b64encode(photo.read_bytes()).decode()]}),
        pip_requirements=[f"mlflow=={mlflow.__version__}"],
        code_paths=[str(code)],
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary, "car_damage")
        package.mkdir()
        (package / "__init__.py").touch()
        for module in TRAVELS:
            shutil.copyfile(BEFORE / module, package / module)
        sys.path.insert(0, temporary)
        pack(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:], package)
