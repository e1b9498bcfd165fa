"""Deployment jobs: the job that is connected to a registered model starts for each new version, which a person approves on its page.

Sources: https://docs.databricks.com/aws/en/mlflow/deployment-job, and for the fields mlflow's databricks_uc_registry_messages.proto
"""

from pathlib import Path
from typing import Any

from tests.databricks.twin.core import Handle, Refused
from tests.databricks.twin.jobs import Run
from tests.databricks.twin.permissions import ADMIN, LEVELS
from tests.databricks.twin.registry import PREFIX, Model, RegistryApi, Version
from tests.databricks.twin.runs import RunsApi

PARAMETERS = {"model_name", "model_version"}


class ApprovalsApi(RunsApi, RegistryApi):
    """The connection of a job and a model, and the button Approve."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.connected: dict[str, int] = {}
        """Full name of a registered model -> the id of its deployment job."""

    def _of_approvals(self) -> dict[tuple[str, str], Handle]:
        return {("PATCH", f"{PREFIX}registered-models/update"): self._update_model}

    def _update_model(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "description", "deployment_job_id"}, {"name"})
        self._typed(body, name=str, description=str, deployment_job_id=str)
        model = self._own(body["name"])
        if "description" in body:
            self.comments["function", model.name] = body["description"]
        if body.get("deployment_job_id"):
            self._connect(model, int(body["deployment_job_id"]))
        elif "deployment_job_id" in body:  # https://github.com/mlflow/mlflow/pull/18488: an empty id disconnects the job
            self.connected.pop(model.name, None)
        return {"registered_model": self._model_shown(model)}

    def _connect(self, model: Model, job_id: int) -> None:
        job = self._job(job_id, "CAN_MANAGE_RUN")
        owner = self.models[model.name]
        if owner != ADMIN and self.levels["jobs", str(job_id)].get(owner, "") not in LEVELS["jobs"][1:]:
            raise Refused(403, "PERMISSION_DENIED", f"The owner of {model.name} does not have CAN_MANAGE_RUN on job {job_id}.")
        if not set(job.defaults) >= PARAMETERS:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Job {job_id} does not have the parameters {sorted(PARAMETERS)}.")
        self.connected[model.name] = job_id

    def _deployment_job(self, model: Model) -> dict[str, str]:
        if (job_id := self.connected.get(model.name)) is None:
            return {}
        job = self.jobs.get(job_id)
        state = "NOT_FOUND" if job is None else "CONNECTED" if set(job.defaults) >= PARAMETERS else "REQUIRED_PARAMETERS_CHANGED"
        return {"deployment_job_id": str(job_id), "deployment_job_state": state}

    def _version_is_there(self, name: str, version: Version) -> None:
        if (job := self.jobs.get(self.connected.get(name, 0))) is None:
            return
        with self.lock:
            given = {"model_name": name, "model_version": str(version.number)}
            job.runs.append(Run(self._id(), job.name, job.defaults | given))
            self._settle()

    def approve(self, name: str, version: int) -> Run:
        """What the button does: it sets the tag with the name of the approval task, and repairs the run. Returns the run."""
        job = self.jobs[self.connected[name]]
        [task] = [task["task_key"] for task in job.settings["tasks"] if task["task_key"].lower().startswith("approval")]
        with self.lock:
            self.registered[name].versions[version].tags[task] = "Approved"
            run = next(run for run in reversed(job.runs) if run.parameters["model_version"] == str(version))
            run.state, run.code = "QUEUED", ""
            self._settle()
        return run

    def settled(self, run: Run) -> bool:
        """Whether the run has ended."""
        with self.lock:
            self._settle()
        return run.state == "TERMINATED"
