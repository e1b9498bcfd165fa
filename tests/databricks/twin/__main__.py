"""`python -m tests.databricks.twin`: a workspace in which to try the Databricks target, until Ctrl-C.

It has a catalog and an administrator, prints the users' tokens, and deletes everything when it ends.
"""

import contextlib
import signal
import tempfile
import threading
from pathlib import Path

from tests.databricks.twin import ADMIN_TOKEN, CLIENT, OTHER_TOKEN, SECRET, workspace


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="twin-") as folder, workspace(Path(folder) / "twin") as twin:
        for name, value in twin.environment.items():
            print(f"export {name}={value}")  # noqa: T201 - to be read by a shell
        tokens = {f"the service principal {CLIENT}": SECRET, "an administrator": ADMIN_TOKEN, "a user without rights": OTHER_TOKEN}
        for who, token in tokens.items():
            print(f"# {who}: DATABRICKS_TOKEN={token}", flush=True)  # noqa: T201
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
