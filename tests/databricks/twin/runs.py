"""Runs of jobs, which execute the wheel's entry point in a process.

Source: https://docs.databricks.com/api/workspace/jobs
"""

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from tests.databricks.twin import clusters
from tests.databricks.twin.core import Handle, Refused, page
from tests.databricks.twin.jobs import ROOT, JobsApi, Run
from tests.engines import FAST_JAVA, FEW_ROWS

MOUNT = Path(__file__).parents[1] / "mount"
TOKEN = 64
"""Most characters of an idempotency token."""


class RunsApi(JobsApi):
    """Runs of the jobs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tokens: dict[str, Run] = {}
        """Idempotency token -> its run."""
        self.cold = 0.0
        """Seconds between the start of a run and the start of its process."""
        self.endings: list[tuple[str, str, str]] = []
        """(code, type, message) with which the next runs end without starting a process."""
        self.retried: list[str] = []
        """How the next task attempts end before Databricks retries them: "killed" or "ended"."""
        self.stuck = ""
        """PENDING, RUNNING or TERMINATING: the state in which runs stay forever, without a process."""

    def runs(self) -> list[Run]:
        return [run for job in self.jobs.values() for run in job.runs]

    def _of_runs(self) -> dict[tuple[str, str], Handle]:
        return {
            ("GET", "/api/2.2/jobs/runs/list"): self._list_runs,
            ("GET", "/api/2.2/jobs/runs/get"): self._get_run,
            ("GET", "/api/2.2/jobs/runs/get-output"): self._get_output,
            ("POST", "/api/2.1/jobs/run-now"): self._run_now,
            ("POST", "/api/2.2/jobs/runs/cancel"): self._cancel,
        }

    def _list_runs(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"job_id", "active_only", "completed_only", "page_token", "limit", "expand_tasks", "start_time_from"})
        active, completed = query.get("active_only") == "true", query.get("completed_only") == "true"
        if active and completed:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "active_only and completed_only cannot both be true")
        job = self._job(int(query["job_id"]), "CAN_VIEW")
        since = int(query.get("start_time_from", "0"))
        with self.lock:
            self._settle()
            runs = [
                self._shown(run)
                for run in reversed(job.runs)
                if run.started * 1000 >= since
                and not (active and run.state == "TERMINATED")
                and not (completed and run.state != "TERMINATED")
            ]
        return page("runs", runs, query)

    def _get_run(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"run_id", "include_history", "include_resolved_values", "page_token"})
        with self.lock:
            self._settle()
            run = self._run(int(query["run_id"]), "CAN_VIEW")
            return self._shown(run) | {"tasks": self._tasks(run)}

    def _get_output(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"run_id"})
        asked = int(query["run_id"])
        for run in self.runs():
            # https://docs.databricks.com/api/workspace/jobs/getrunoutput says this of runs with several tasks. Databricks may count
            # a run whose format is MULTI_TASK as one of them although it has only one task.
            if run.run_id == asked:
                raise Refused(
                    400,
                    "INVALID_PARAMETER_VALUE",
                    "Retrieving the output of runs with multiple tasks is not supported. "
                    "Please retrieve the output of each individual task run instead.",
                )
            if asked in run.task_run_ids:
                with self.lock:
                    self._settle()
                return {"metadata": self._tasks(run)[run.task_run_ids.index(asked)]} | self._said(run, asked)
        raise Refused(400, "INVALID_PARAMETER_VALUE", f"Run {asked} does not exist.")

    def _said(self, run: Run, task_run: int) -> dict[str, str]:
        if run.state != "TERMINATED" or run.code == "SUCCESS":
            return {}
        if not run.output:
            return {"error": run.message}
        logs = self._log(task_run).read_text()
        _, _, trace = logs.rpartition("Traceback (most recent call last):")
        return {"logs": logs} | ({"error": trace.strip().splitlines()[-1], "error_trace": trace} if trace.strip() else {})

    def _tasks(self, run: Run) -> list[dict[str, Any]]:
        job = next(job for job in self.jobs.values() if run in job.runs)
        [task] = job.settings["tasks"]
        shown = self._shown(run)
        return [
            {
                "run_id": task_run_id,
                "task_key": task["task_key"],
                "attempt_number": attempt,
                "state": shown["state"]
                if task_run_id == run.task_run_ids[-1]
                else {"life_cycle_state": "TERMINATED", "result_state": "FAILED"},
            }
            for attempt, task_run_id in enumerate(run.task_run_ids)
        ]

    def _run_now(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, set())
        self._only(body, {"job_id", "idempotency_token", "job_parameters"}, {"job_id"})
        self._typed(body, job_id=int, idempotency_token=str, job_parameters=dict)
        job = self._job(body["job_id"], "CAN_MANAGE_RUN")
        token = body.get("idempotency_token", "")
        if len(token) > TOKEN:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"idempotency_token must have at most {TOKEN} characters")
        given = body.get("job_parameters", {})
        if unknown := set(given) - set(job.defaults):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Job parameters {sorted(unknown)} are not defined in the job")
        if not all(isinstance(value, str) for value in given.values()):
            raise Refused(400, "MALFORMED_REQUEST", "job_parameters is a map of strings")
        if len(json.dumps(given)) > 10_000:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "job_parameters may have 10000 bytes")
        with self.lock:
            if token in self.tokens:
                return {"run_id": self.tokens[token].run_id}
            run = Run(self._id(), job.name, job.defaults | given)
            job.runs.append(run)
            if token:
                self.tokens[token] = run
            self._settle()
        return {"run_id": run.run_id, "number_in_job": run.run_id}

    def _cancel(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"run_id"}, {"run_id"})
        self._typed(body, run_id=int)
        run = self._run(body["run_id"], "CAN_MANAGE_RUN")
        with self.lock:
            run.cancelled = True
            if run.state == "RUNNING" and self.stuck != "RUNNING":
                run.state = "TERMINATING"
        return {}

    def _run(self, run_id: int, level: str) -> Run:
        for job in self.jobs.values():
            for run in job.runs:
                if run.run_id == run_id:
                    self.need_level("jobs", job.job_id, level)
                    return run
        raise Refused(400, "INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")

    def _settle(self) -> None:
        """Bring the runs up to date. One run at a time: max_concurrent_runs is 1, so other runs queue."""
        for job in self.jobs.values():
            for run in job.runs:
                if run.state in {"RUNNING", "TERMINATING"} and run.process:
                    self._look(run)
            waiting = [run for run in job.runs if run.state in {"QUEUED", "PENDING"} and run.state != self.stuck]
            for run in waiting:
                if run.cancelled:
                    self._end(run, "USER_CANCELED", "CLIENT_ERROR", "Run cancelled.")
            busy = any(run.state in {"RUNNING", "TERMINATING"} for run in job.runs)
            if not busy and (run_next := next((run for run in job.runs if run.state in {"QUEUED", "PENDING"}), None)):
                run_next.state = "PENDING"
                if self.stuck != "PENDING" and time.time() - run_next.started >= self.cold:
                    self._begin(run_next)

    def _begin(self, run: Run) -> None:
        run.task_run_ids.append(self._id())
        if self.endings:
            self._end(run, *self.endings.pop(0))
            return
        job = next(job for job in self.jobs.values() if run in job.runs)
        [task] = job.settings["tasks"]
        wheel = clusters.wheel(job.settings, task)
        if not self.volume(wheel).is_file():
            self._end(run, "LIBRARY_INSTALLATION_ERROR", "CLIENT_ERROR", f"{wheel} is not there")
            return
        run.state = "RUNNING"
        if self.stuck:
            return
        output = self._log(run.task_run_ids[-1])
        run.output = str(output)
        called = [task["python_wheel_task"]["package_name"], task["python_wheel_task"]["entry_point"]]
        values = {f"job.parameters.{name}": value for name, value in run.parameters.items()} | {"job.run_id": str(run.run_id)}
        given = [
            re.sub(r"\{\{([^}]*)\}\}", lambda found: values[found[1]], parameter) for parameter in task["python_wheel_task"]["parameters"]
        ]
        command = [sys.executable, "-P", "-m", "tests.databricks.cluster", *called, *given]
        # The process gets the job's identity and the wheel's code, and no settings or credentials of its starter.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DATABRICKS_", "CAR_DAMAGE_", "PREFECT_"))}
        # In a workspace, the runtime passes the job's identity to the SDK and to MLflow.
        token = f"job-run-{run.run_id}"
        self.pats[token] = self.run_as(job)
        environment |= self.environment | {"DATABRICKS_TOKEN": token}
        environment["PYTHONPATH"] = os.pathsep.join([str(MOUNT), str(self._unpacked(wheel)), str(ROOT)])
        environment["TWIN_VOLUMES"] = str(self.storage)
        environment["JAVA_TOOL_OPTIONS"] = FAST_JAVA
        environment["SPARK_CONF_DIR"] = str(self._spark_defaults())
        with output.open("wb") as file:
            run.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)

    def _log(self, task_run: int) -> Path:
        return self.folder / f"run-{task_run}.log"

    def _spark_defaults(self) -> Path:
        folder = self.folder / "spark"
        folder.mkdir(exist_ok=True)
        (folder / "spark-defaults.conf").write_text("\n".join(f"{name} {value}" for name, value in FEW_ROWS.items()))
        return folder

    def _unpacked(self, wheel: str) -> Path:
        folder = self.folder / "installed" / Path(wheel).stem
        if not folder.exists():
            with zipfile.ZipFile(self.volume(wheel)) as archive:
                archive.extractall(folder)
        return folder

    def _look(self, run: Run) -> None:
        assert run.process is not None
        if run.cancelled and run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        if self.retried[:1] == ["killed"]:
            run.process.kill()
            run.process.wait()
        code = run.process.poll()
        if code is None:
            return
        if self.retried and not run.cancelled:
            self.retried.pop(0)
            self._begin(run)  # the job's run stays the same; its task gets another run
        elif run.cancelled:
            self._end(run, "USER_CANCELED", "CLIENT_ERROR", "Run cancelled.")
        elif code:
            self._end(run, "RUN_EXECUTION_ERROR", "CLIENT_ERROR", "Workload failed, see run output for details.")
        else:
            self._end(run, "SUCCESS", "SUCCESS", "")

    def _end(self, run: Run, code: str, kind: str, message: str) -> None:
        run.state, run.code, run.kind, run.message = "TERMINATED", code, kind, message

    def _shown(self, run: Run) -> dict[str, Any]:
        job = next(job for job in self.jobs.values() if run in job.runs)
        status: dict[str, Any] = {"state": run.state}
        life = {"QUEUED": "QUEUED", "PENDING": "PENDING", "RUNNING": "RUNNING", "TERMINATING": "TERMINATING", "TERMINATED": "TERMINATED"}
        state: dict[str, Any] = {
            "life_cycle_state": life[run.state],
            "state_message": run.message,
            "user_cancelled_or_timedout": run.cancelled,
        }
        if run.state == "TERMINATED":
            status["termination_details"] = {"code": run.code, "type": run.kind, "message": run.message}
            state["result_state"] = {"SUCCESS": "SUCCESS", "USER_CANCELED": "CANCELED"}.get(run.code, "FAILED")
        return {
            "job_id": job.job_id,
            "run_id": run.run_id,
            "run_name": job.name,
            "run_page_url": f"{self.host}/?o=1234#job/{job.job_id}/run/{run.run_id}",
            "start_time": int(run.started * 1000),
            "state": state,
            "status": status,
            "job_parameters": [{"name": name, "default": default, "value": run.parameters[name]} for name, default in job.defaults.items()],
        }
