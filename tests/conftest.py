"""Shared by all tests."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

# Must come before TensorFlow: when Prefect sets up its logging, it closes the existing handlers, and absl's handler
# closes the stream that pytest captures.
import prefect.main  # noqa: F401
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.engines import DELTA_RS, ENGINES, Sessions

# A shell's background jobs ignore Ctrl-C, and the tests' processes would inherit that: Prefect's worker would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)

# If the shell exports it, tables would be cut at the width of that terminal.
os.environ.pop("COLUMNS", None)

# A call of MLflow without a tracking URI must not find or leave anything in the working directory.
nobody = tempfile.mkdtemp(prefix="car-damage-tests-")
atexit.register(shutil.rmtree, nobody, ignore_errors=True)
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{nobody}/nobody.db"

# The car-damage.toml of this checkout, such as the demo's, is not for tests.
os.environ["CAR_DAMAGE_CONFIG"] = f"{nobody}/settings.toml"
Path(os.environ["CAR_DAMAGE_CONFIG"]).touch()

STORIES = (
    "tests/prefect/test_service.py",
    "tests/test_demo.py",
    "tests/prefect/test_on_databricks.py",
    "tests/prefect/test_retrain.py",
    "tests/test_up.py",
    "tests/prefect",
    "tests/tables",
    "tests/databricks",
    "tests/server",
    "tests/kill",
    "tests/nights",
)
"""Files and folders whose tests share servers, models or a Java process, so one process runs all tests of an entry.
The longest start first; otherwise one process would still be running the longest when all others have ended."""


def pytest_addoption(parser):
    parser.addoption("--engine", choices=ENGINES, default=DELTA_RS, help="the table engine of the tests that need just one")


def rank(nodeid):
    """Index of the first story that a test belongs to. Tests without a story come last."""
    return next((rank for rank, path in enumerate(STORIES) if nodeid.startswith(path)), len(STORIES))


def pytest_collection_modifyitems(items):
    """Run the longest stories first."""
    items.sort(key=lambda item: rank(item.nodeid))


class ByStory(LoadScopeScheduling):
    """Gives each process whole stories, and whole folders of the other tests."""

    def _split_scope(self, nodeid):
        path, story = nodeid.partition("::")[0], rank(nodeid)
        return STORIES[story] if story < len(STORIES) else str(Path(path).parent)


def pytest_xdist_make_scheduler(config, log):
    return ByStory(config, log)


@pytest.fixture
def gpu(monkeypatch):
    """Call it: from then on, and until the test ends, trainings take this machine for one with a GPU."""
    from car_damage.model.networks import startup

    startup.import_quietly()
    from tensorflow.python.framework import config

    yield lambda: monkeypatch.setattr(startup, "has_gpu", lambda: True)
    config.disable_op_determinism()


@pytest.fixture(scope="session")
def engine(request):
    """The table engine for tests that need only one."""
    return request.config.getoption("--engine")


@pytest.fixture(scope="session")
def sessions(tmp_path_factory):
    """Spark's sessions. Each starts when a test first needs it."""
    sessions = Sessions(tmp_path_factory.mktemp("spark"))
    yield sessions
    sessions.stop()
