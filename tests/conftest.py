"""For all tests."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

# Before anything imports TensorFlow: setting up its logging, Prefect closes the handlers that are there, and absl's
# handler closes the stream that pytest captures.
import prefect.main  # noqa: F401
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.engines import DELTA_RS, ENGINES, Sessions

# What a shell starts in the background ignores Ctrl-C, and so would all processes of the tests: Prefect's worker then never ends.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where a person's shell exports it, tables would be cut at the width of that terminal.
os.environ.pop("COLUMNS", None)

# What asks MLflow without saying where must not find, or leave, anything in the working directory.
nobody = tempfile.mkdtemp(prefix="car-damage-tests-")
atexit.register(shutil.rmtree, nobody, ignore_errors=True)
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{nobody}/nobody.db"

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
)
"""Files, and folders, whose tests share servers, models or a Java process, so that one process runs them all. In the order in which
they begin: the longest first, or one process would be left with it when all others have ended."""


def pytest_addoption(parser):
    parser.addoption("--engine", choices=ENGINES, default=DELTA_RS, help="the table engine of the tests that need just one")


def rank(nodeid):
    """The first of the stories that a test belongs to; after them all others."""
    return next((rank for rank, path in enumerate(STORIES) if nodeid.startswith(path)), len(STORIES))


def pytest_collection_modifyitems(items):
    """The longest stories first."""
    items.sort(key=lambda item: rank(item.nodeid))


class ByStory(LoadScopeScheduling):
    """Gives each process whole stories, and of all other tests whole folders."""

    def _split_scope(self, nodeid):
        path, story = nodeid.partition("::")[0], rank(nodeid)
        return STORIES[story] if story < len(STORIES) else str(Path(path).parent)


def pytest_xdist_make_scheduler(config, log):
    return ByStory(config, log)


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
