"""For all tests."""

import atexit
import os
import shutil
import tempfile

# Before anything imports TensorFlow: setting up its logging, Prefect closes the handlers that are there, and absl's
# handler closes the stream that pytest captures.
import prefect.main  # noqa: F401
import pytest

from tests.engines import DELTA_RS, ENGINES, Sessions

# Where a person's shell exports it, tables would be cut at the width of that terminal.
os.environ.pop("COLUMNS", None)

# What asks MLflow without saying where must not find, or leave, anything in the working directory.
nobody = tempfile.mkdtemp(prefix="car-damage-tests-")
atexit.register(shutil.rmtree, nobody, ignore_errors=True)
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{nobody}/nobody.db"

LONGEST = (
    "tests/prefect/test_service.py",
    "tests/test_demo.py",
    "tests/prefect/test_on_databricks.py",
    "tests/prefect/test_retrain.py",
    "tests/test_up.py",
    "tests/kill",
    "tests/databricks/test_runner.py",
    "tests/tables/test_spark.py",
    "tests/tables/test_tables.py",
    "tests/server/test_hand_over.py",
    "tests/databricks/test_model_serving.py",
    "tests/tables/test_engines_agree.py",
)
"""Files whose tests take longest. They begin first: else one process would be left with one of them while all others have ended."""


def pytest_addoption(parser):
    parser.addoption("--engine", choices=ENGINES, default=DELTA_RS, help="the table engine of the tests that need just one")


def pytest_collection_modifyitems(items):
    """The longest first, and each file's tests together and in their order."""
    items.sort(key=lambda item: next((rank for rank, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST)))


@pytest.fixture(scope="session")
def engine(request):
    """The table engine of tests that need just one."""
    return request.config.getoption("--engine")


@pytest.fixture(scope="session")
def sessions(tmp_path_factory):
    """Spark's, started when a test first asks for one."""
    sessions = Sessions(tmp_path_factory.mktemp("spark"))
    yield sessions
    sessions.stop()
