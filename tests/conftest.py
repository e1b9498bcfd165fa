"""For all tests."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Before anything imports TensorFlow: setting up its logging, Prefect closes the handlers that are there, and absl's
# handler closes the stream that pytest captures.
import prefect.main  # noqa: F401
import pytest

TESTS = Path(__file__).parent
LONG = ("kill/test_kill.py", "prefect/test_service.py", "test_up.py", "prefect/test_retrain.py", "test_demo.py")
"""Begun first: a long file that is begun last leaves the other cores without work."""

# readline, which pytest imports, gives it to child processes, pytest-xdist's workers among them: tables would be cut at 80.
os.environ.pop("COLUMNS", None)

# What asks MLflow without saying where must not find, or leave, anything in the working directory.
nobody = tempfile.mkdtemp(prefix="car-damage-tests-")
atexit.register(shutil.rmtree, nobody, ignore_errors=True)
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{nobody}/nobody.db"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {TESTS / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))
