"""Tracking: MLflow's own server, behind checks for what Databricks refuses and MLflow accepts.

Sources: https://docs.databricks.com/api/workspace/experiments, mlflow's databricks_artifact_repo.py and its neighbours
"""

import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

from tests.databricks.twin.core import Refused
from tests.databricks.twin.mounted import Mounted, free_port
from tests.databricks.twin.permissions import Permissions

ROOT = "dbfs:/databricks/mlflow-tracking"
PREFIX = "/api/2.0/mlflow/"
_PATHS = re.compile(
    r"GET experiments/get|GET runs/get|GET metrics/get-history"
    r"|POST runs/(create|update|search|log-batch|log-metric|log-parameter|log-inputs|outputs|set-tag|delete-tag|delete)"
    r"|POST logged-models(/search|/m-\w+/params)?|(GET|PATCH|DELETE) logged-models/m-\w+|PATCH logged-models/m-\w+/tags"
)
_OF_THE_WORKSPACE = tuple(f"{PREFIX}experiments/{what}" for what in ("create", "get-by-name", "set-experiment-tag"))
"""Experiments are workspace objects with folders and permissions: see workspace_objects.py."""
_BATCH = {"metrics": 1000, "params": 100, "tags": 100}
"""Most entries in one batch."""
_LONGEST = {"params": 6000, "tags": 8192}
"""Most characters of a value."""


class TrackingApi(Permissions):
    """Runs and logged models of the workspace's experiments."""

    experiments: dict[str, str]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mlflow: Mounted | None = None
        self._mlflow_starts = threading.Lock()
        self._experiments_told = 0
        """How many of the workspace's experiments, in order, MLflow's server has."""

    def _of_tracking(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        if not path.startswith(PREFIX) or path.startswith((f"{PREFIX}unity-catalog/", *_OF_THE_WORKSPACE)):
            return None
        asked = f"{method} {path.removeprefix(PREFIX)}"
        if not _PATHS.fullmatch(asked):
            self.strange.append(f"{method} {path}")
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        body = body or None
        if asked == "POST runs/log-batch":
            self._check_batch(body)
        if asked in {"POST runs/create", "POST logged-models"}:
            self.need_level("experiments", body["experiment_id"], "CAN_EDIT")
        server = self._tracking_server()
        self._tell_of_experiments(server)
        answer = server.ask(method, path, query, body)
        # MLflow's server keeps logged models beside the runs; a workspace keeps them in a separate folder.
        return json.loads(json.dumps(answer).replace("/models/m-", "/logged_models/m-"))

    def stop_tracking(self) -> None:
        if self._mlflow is not None:
            self._mlflow.stop()

    def _tracking_server(self) -> Mounted:
        with self._mlflow_starts:
            if self._mlflow is None:
                port = free_port()
                command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
                command += ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
                command += ["--default-artifact-root", ROOT, "--no-serve-artifacts"]
                # MLflow's job execution takes seven processes, and no test needs it.
                environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
                self._mlflow = Mounted(command, port, self.folder / "mlflow.log", environment)
            return self._mlflow

    def _tell_of_experiments(self, server: Mounted) -> None:
        """Create the workspace's experiments in MLflow's server. The ids are equal because both count from one."""
        with self._mlflow_starts:
            for name, number in [*self.experiments.items()][self._experiments_told :]:
                made = server.ask("POST", f"{PREFIX}experiments/create", {}, {"name": name})
                assert made["experiment_id"] == number, made
                self._experiments_told += 1

    def _check_batch(self, body: Any) -> None:
        self._only(body, {"run_id", "metrics", "params", "tags"}, {"run_id"})
        for kind, most in _BATCH.items():
            if len(body.get(kind, ())) > most:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"a batch may have {most} {kind}")
        for kind, longest in _LONGEST.items():
            if any(len(entry["value"]) > longest for entry in body.get(kind, ())):
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"a value of {kind} may have {longest} characters")
