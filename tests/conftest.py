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


def pytest_addoption(parser):
    parser.addoption("--engine", choices=ENGINES, default=DELTA_RS, help="the table engine of the tests that need just one")


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
