"""For all tests."""

# Before anything imports TensorFlow: setting up its logging, Prefect closes the handlers that are there, and absl's
# handler closes the stream that pytest captures.
import prefect.main  # noqa: F401
