"""Jobs API 2.1 and 2.2: jobs with one Python wheel task. runs.py has their runs.

Source: https://docs.databricks.com/api/workspace/jobs
"""

import subprocess
import time
import tomllib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.databricks import bundle
from deployments.databricks.differences import NOT_RETURNED
from tests.databricks.twin import clusters
from tests.databricks.twin.core import Handle, Refused, page
from tests.databricks.twin.permissions import CLIENT, PRINCIPALS, Permissions

ROOT = Path(__file__).parents[3]


@dataclass
class Run:
    """A run of a job."""

    run_id: int
    job: str
    parameters: dict[str, str]
    started: float = field(default_factory=time.time)
    state: str = "QUEUED"
    code: str = ""
    kind: str = ""
    message: str = ""
    process: "subprocess.Popen[bytes] | None" = None
    output: str = ""
    cancelled: bool = False
    task_run_ids: list[int] = field(default_factory=list)
    """Ids of the runs of its task, one for each attempt."""


@dataclass
class Job:
    """A job with one Python wheel task."""

    job_id: int
    settings: dict[str, Any]
    creator: str
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    @property
    def defaults(self) -> dict[str, str]:
        """Job parameter -> default value."""
        return {parameter["name"]: parameter["default"] for parameter in self.settings.get("parameters", [])}


class JobsApi(Permissions):
    """Jobs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.jobs: dict[int, Job] = {}
        self.rivals: list[str] = []
        """Users. At each next creation of a job, one of them first creates a job with the same settings."""
        self.clusters: set[str] = set()
        """Ids of all-purpose clusters."""
        self.policies: clusters.Policies = {}

    def make_job(self, name: str) -> Job:
        """Create a job as databricks.yml describes it, with a wheel of the current code."""
        wheel = "/Volumes/insurance_uc/ops/wheels/car_damage-0-0-py3-none-any.whl"
        if not self.volume(wheel).exists():
            self.volume(wheel).parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(self.volume(wheel), "w") as archive:
                for path in (ROOT / "car_damage").rglob("*"):
                    if path.is_file() and "__pycache__" not in path.parts:
                        archive.write(path, path.relative_to(ROOT))
                scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
                lines = "\n".join(f"{script} = {where}" for script, where in scripts.items())
                archive.writestr("car_damage-0.dist-info/METADATA", "Metadata-Version: 2.1\nName: car-damage\nVersion: 0\n")
                archive.writestr("car_damage-0.dist-info/entry_points.txt", f"[console_scripts]\n{lines}\n")
        job = Job(self._id(), bundle.jobs({"wheel": wheel})[name], self.caller)
        self._keep(job)
        return job

    def _keep(self, job: Job) -> None:
        self.jobs[job.job_id] = job
        self.levels["jobs", str(job.job_id)] = {job.creator: "IS_OWNER"}

    def run_as(self, job: Job) -> str:
        """The identity of the job's runs: the one that its settings name, or its owner."""
        [owner] = [name for name, level in self.levels["jobs", str(job.job_id)].items() if level == "IS_OWNER"]
        return str(next(iter(job.settings.get("run_as", {}).values()), owner))

    def _of_jobs(self) -> dict[tuple[str, str], Handle]:
        return {
            ("GET", "/api/2.2/jobs/list"): self._list_jobs,
            ("GET", "/api/2.2/jobs/get"): self._get_job,
            ("POST", "/api/2.2/jobs/create"): self._create_job,
            ("POST", "/api/2.2/jobs/reset"): self._reset_job,
            ("POST", "/api/2.2/jobs/delete"): self._delete_job,
        }

    def _list_jobs(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"name", "page_token", "limit", "offset", "expand_tasks"})
        # Databricks ignores case when it compares names.
        wanted = query.get("name", "").lower()
        seen = [job for job in self.jobs.values() if self.level("jobs", job.job_id) >= 0]
        found = [job for job in seen if not wanted or job.name.lower() == wanted]
        return page("jobs", [_listed(job) for job in found], query)

    def _get_job(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"job_id", "page_token"})
        job = self._job(int(query["job_id"]), "CAN_VIEW")
        # Databricks fills in some fields that nobody set, omits some default values, and returns lists in its own order.
        filled = _lean({"format": "MULTI_TASK", "timeout_seconds": 0, "email_notifications": {}} | job.settings)
        for path in NOT_RETURNED:
            _take_out(filled, path.split("."))
        return {"job_id": job.job_id, "creator_user_name": job.creator, "run_as_user_name": self.run_as(job), "settings": filled}

    def _create_job(self, query: dict[str, str], body: Any) -> Any:
        settings = self._checked(body)
        if self.rivals:
            self._keep(Job(self._id(), dict(settings), self.rivals.pop(0)))
        job = Job(self._id(), settings, self.caller)
        self._keep(job)
        return {"job_id": job.job_id}

    def _reset_job(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"job_id", "new_settings"}, {"job_id", "new_settings"})
        job = self._job(body["job_id"], "CAN_MANAGE")
        settings = self._checked(body["new_settings"])
        # run_as stays as it is if the new settings do not name it.
        job.settings = {name: value for name, value in job.settings.items() if name == "run_as"} | settings
        return {}

    def _delete_job(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"job_id"}, {"job_id"})
        self._job(body["job_id"], "CAN_MANAGE")
        del self.jobs[body["job_id"]], self.levels["jobs", str(body["job_id"])]
        return {}

    def _checked(self, settings: Any) -> dict[str, Any]:
        """The settings as they are stored. Refuses a job that Databricks would refuse or could not run."""
        known = {
            "name", "description", "max_concurrent_runs", "queue", "performance_target", "parameters", "environments", "tasks", "run_as",
            "format", "timeout_seconds", "email_notifications", "tags", "job_clusters", "deployment", "edit_mode",
        }  # fmt: skip
        self._only(settings, known, {"name", "tasks"})
        self._typed(settings, name=str, tasks=list, max_concurrent_runs=int, queue=dict, parameters=list, environments=list)
        settings = clusters.with_policies(settings, self.policies)
        clusters.check(self._only, settings, self.clusters)
        wanted = settings.get("run_as", {}).get("service_principal_name")
        if wanted is not None and wanted not in PRINCIPALS:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Service principal {wanted} does not exist")
        if wanted == CLIENT and self.caller not in {CLIENT, *self.service_principal_users}:
            raise Refused(403, "PERMISSION_DENIED", f"{self.caller} does not have the role servicePrincipal/user on {wanted}.")
        names = [parameter["name"] for parameter in settings.get("parameters", [])]
        if len(set(names)) < len(names):
            raise Refused(400, "INVALID_PARAMETER_VALUE", "Job parameters must have different names")
        return settings

    def _job(self, job_id: int, level: str) -> Job:
        if job_id not in self.jobs:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Job {job_id} does not exist.")
        self.need_level("jobs", job_id, level)
        return self.jobs[job_id]


def _listed(job: Job) -> dict[str, Any]:
    return {"job_id": job.job_id, "creator_user_name": job.creator, "settings": {"name": job.name}}


def _take_out(value: Any, path: list[str]) -> None:
    """Remove a path such as ["job_clusters[*]", "new_cluster", "policy_id"]."""
    name, each, _ = path[0].partition("[*]")
    if len(path) == 1:
        value.pop(name, None)
        return
    for inner in value.get(name, []) if each else [value[name]] if name in value else []:
        _take_out(inner, path[1:])


def _lean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lean(inner) for key, inner in value.items() if inner not in (0, "", False)}
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return [_lean(entry) for entry in reversed(value)]
    return value
