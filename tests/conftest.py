"""For all tests."""

import os
import tempfile

# Before anything imports TensorFlow: setting up its logging, Prefect closes the handlers that are there, and absl's
# handler closes the stream that pytest captures.
import prefect.main  # noqa: F401

# What asks MLflow without saying where must not find, or leave, anything in the working directory.
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp(prefix='car-damage-tests-')}/nobody.db"
