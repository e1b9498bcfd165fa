"""A workspace on loopback: HTTPS, tokens, jobs whose runs really run, and the files of its volumes.

It takes what the documentation names and nothing else: an unknown path, field or value, or a missing one, is refused with
the documented code, and kept in `strange`, which a test's end looks at. Where the documentation leaves a doubt, the
stricter reading is taken.

Sources: https://docs.databricks.com/api/workspace/jobs, https://docs.databricks.com/api/workspace/files
"""

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import tomllib
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from deployments import bundle

ROOT = Path(__file__).parents[2]
PAGE = 2
"""Entries a page, so that every listing has several."""
TOKEN = 64
"""Characters that an idempotency token may have."""
SECRET = "dose-marker-secret"  # noqa: S105
CLIENT = "0b5e7a2c-service-principal"


class Refused(Exception):
    """An answer other than 200, as the workspace words it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Fault:
    """What happens instead of, or after, the next calls that fit."""

    method: str
    path: str
    """The start of the path, without /api/2.x."""
    kind: int | str
    """A status; or "reset before" and "reset after" the effect."""
    times: int = 1
    seen: int = 0


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


@dataclass
class Job:
    """A job of one Python wheel task."""

    job_id: int
    settings: dict[str, Any]
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.settings["name"])

    @property
    def defaults(self) -> dict[str, str]:
        """Its job parameters."""
        return {parameter["name"]: parameter["default"] for parameter in self.settings.get("parameters", [])}


class Twin:
    """The workspace. A context manager; `environment` is what a client of it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = folder / "volumes"
        self.jobs: dict[int, Job] = {}
        self.tokens: dict[str, Run] = {}
        """Idempotency token -> its run."""
        self.pats = {SECRET}
        self.access: dict[str, float] = {}
        """OAuth access token -> when it ends."""
        self.lifetime = 3600.0
        self.faults: list[Fault] = []
        self.strange: list[str] = []
        self.asked: list[str] = []
        self.catalog = "insurance_uc"
        self.schemas: set[str] = set()
        """Those that were made by the API; others are where a volume is."""
        self.cold = 0.0
        """Seconds between the start of a run and that of its process."""
        self.endings: list[tuple[str, str, str]] = []
        """(code, type, message) of the next runs, which end so without their process."""
        self._next = 1000
        self.lock = threading.RLock()

    def __enter__(self) -> "Twin":
        self.storage.mkdir(parents=True)
        certificate = _certificate(self.folder)
        twin = self

        class Handler(_Handler):
            workspace = twin

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, self.folder / "key.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.host = f"https://127.0.0.1:{self._server.server_port}"
        self.environment = {
            "DATABRICKS_HOST": self.host,
            "DATABRICKS_TOKEN": SECRET,
            "DATABRICKS_AUTH_TYPE": "pat",
            "SSL_CERT_FILE": str(certificate),
            "REQUESTS_CA_BUNDLE": str(certificate),
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for run in self.runs():
            if run.process and run.process.poll() is None:
                run.process.kill()
                run.process.wait()

    def volume(self, path: str) -> Path:
        """Where a file of a volume is on this disk."""
        return self.storage / path.removeprefix("/Volumes/")

    def make_job(self, name: str) -> Job:
        """A job as deployments/databricks.yml describes it, with a wheel of the present code."""
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
        job = Job(self._id(), bundle.jobs({"wheel": wheel})[name])
        self.jobs[job.job_id] = job
        return job

    def runs(self) -> list[Run]:
        return [run for job in self.jobs.values() for run in job.runs]

    def fault(self, method: str, path: str, kind: int | str, times: int = 1) -> Fault:
        fault = Fault(method, path, kind, times)
        self.faults.append(fault)
        return fault

    def _id(self) -> int:
        with self.lock:
            self._next += 1
            return self._next

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        routes: dict[tuple[str, str], Callable[[dict[str, str], Any], Any]] = {
            ("GET", "/api/2.2/jobs/list"): self._list_jobs,
            ("GET", "/api/2.2/jobs/runs/list"): self._list_runs,
            ("GET", "/api/2.2/jobs/runs/get"): self._get_run,
            ("POST", "/api/2.1/jobs/run-now"): self._run_now,
            ("POST", "/api/2.2/jobs/runs/cancel"): self._cancel,
            ("GET", "/api/2.2/jobs/get"): self._get_job,
            ("POST", "/api/2.2/jobs/create"): self._create_job,
            ("POST", "/api/2.2/jobs/reset"): self._reset_job,
            ("POST", "/api/2.2/jobs/delete"): self._delete_job,
            ("POST", "/api/2.1/unity-catalog/schemas"): self._create_schema,
            ("POST", "/api/2.1/unity-catalog/volumes"): self._create_volume,
            ("POST", "/api/2.0/fs/create-download-url"): self._download_url,
        }
        for start, handle in (("/api/2.0/fs/files", self._file), ("/api/2.0/fs/directories", self._directory)):
            if path.startswith(f"{start}/Volumes/"):
                return handle(method, unquote(path.removeprefix(start)), query, body)
        for kind in ("catalog", "schema", "volume"):
            start = f"/api/2.1/unity-catalog/{kind}s/"
            if method == "GET" and path.startswith(start):
                return self._securable(kind, unquote(path.removeprefix(start)), query)
        if (method, path) not in routes:
            self.strange.append(f"{method} {path}")
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        return routes[method, path](query, body)

    def _list_jobs(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"name", "page_token", "limit", "offset", "expand_tasks"})
        # Names are compared without regard to case.
        wanted = query.get("name", "").lower()
        found = [job for job in self.jobs.values() if not wanted or job.name.lower() == wanted]
        return _page("jobs", [{"job_id": job.job_id, "settings": {"name": job.name}} for job in found], query)

    def _get_job(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"job_id", "page_token"})
        job = self._job(int(query["job_id"]))
        # Some of what nobody has set is filled in, and some of what is as by default left out; lists come in an order of their own.
        filled = _lean({"format": "MULTI_TASK", "timeout_seconds": 0, "email_notifications": {}} | job.settings)
        return {"job_id": job.job_id, "creator_user_name": "service-principal", "settings": filled}

    def _create_job(self, query: dict[str, str], body: Any) -> Any:
        self._check(body)
        job = Job(self._id(), body)
        self.jobs[job.job_id] = job
        return {"job_id": job.job_id}

    def _reset_job(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"job_id", "new_settings"}, {"job_id", "new_settings"})
        self._check(body["new_settings"])
        self._job(body["job_id"]).settings = body["new_settings"]
        return {}

    def _delete_job(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"job_id"}, {"job_id"})
        self._job(body["job_id"])
        del self.jobs[body["job_id"]]
        return {}

    def _check(self, settings: Any) -> None:
        """Refuse a job that Databricks would refuse, or that would not run."""
        known = {
            "name", "description", "max_concurrent_runs", "queue", "performance_target", "parameters", "environments", "tasks", "run_as",
            "format", "timeout_seconds", "email_notifications", "tags",
        }  # fmt: skip
        self._only(settings, known, {"name", "tasks"})
        environments = {one["environment_key"]: one["spec"] for one in settings.get("environments", [])}
        for environment in environments.values():
            self._only(environment, {"environment_version", "dependencies"}, {"environment_version"})
        for task in settings["tasks"]:
            wheel = {"task_key", "environment_key", "max_retries", "disable_auto_optimization", "python_wheel_task"}
            self._only(task, wheel, {"task_key", "python_wheel_task"})
            self._only(task["python_wheel_task"], {"package_name", "entry_point", "parameters"}, {"package_name", "entry_point"})
            if task.get("environment_key") not in environments:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"Task {task['task_key']} names no environment of the job")
        names = [parameter["name"] for parameter in settings.get("parameters", [])]
        if len(set(names)) < len(names):
            raise Refused(400, "INVALID_PARAMETER_VALUE", "Job parameters must have different names")

    def _securable(self, kind: str, name: str, query: dict[str, str]) -> Any:
        self._only(query, {"include_browse"})
        parts = name.split(".")
        there = {"catalog": name == self.catalog, "schema": name in self.schemas}
        if not self.storage.joinpath(*parts).is_dir() and not there.get(kind):
            raise Refused(404, f"{kind.upper()}_DOES_NOT_EXIST", f"{kind.title()} '{name}' does not exist.")
        return {"name": parts[-1], "full_name": name, "catalog_name": parts[0]}

    def _create_schema(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "catalog_name", "comment"}, {"name", "catalog_name"})
        if body["catalog_name"] != self.catalog:
            raise Refused(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{body['catalog_name']}' does not exist.")
        name = f"{body['catalog_name']}.{body['name']}"
        if name in self.schemas:
            raise Refused(400, "SCHEMA_ALREADY_EXISTS", f"Schema '{name}' already exists")
        self.schemas.add(name)
        return {"name": body["name"], "full_name": name, "catalog_name": body["catalog_name"]}

    def _create_volume(self, query: dict[str, str], body: Any) -> Any:
        needed = {"name", "catalog_name", "schema_name", "volume_type"}
        self._only(body, needed | {"comment", "storage_location"}, needed)
        schema = f"{body['catalog_name']}.{body['schema_name']}"
        if schema not in self.schemas:
            raise Refused(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")
        folder = self.storage / body["catalog_name"] / body["schema_name"] / body["name"]
        if folder.exists():
            raise Refused(400, "VOLUME_ALREADY_EXISTS", f"Volume '{body['name']}' already exists")
        folder.mkdir(parents=True)
        return {"name": body["name"], "full_name": f"{schema}.{body['name']}", "volume_type": body["volume_type"]}

    def _list_runs(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"job_id", "active_only", "completed_only", "page_token", "limit", "expand_tasks", "start_time_from"})
        active, completed = query.get("active_only") == "true", query.get("completed_only") == "true"
        if active and completed:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "active_only and completed_only cannot both be true")
        job = self._job(int(query["job_id"]))
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
        return _page("runs", runs, query)

    def _get_run(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"run_id", "include_history", "include_resolved_values", "page_token"})
        with self.lock:
            self._settle()
            return self._shown(self._run(int(query["run_id"])))

    def _run_now(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, set())
        self._only(body, {"job_id", "idempotency_token", "job_parameters"}, {"job_id"})
        job = self._job(body["job_id"])
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
        run = self._run(body["run_id"])
        with self.lock:
            run.cancelled = True
            if run.state == "RUNNING":
                run.state = "TERMINATING"
        return {}

    def _job(self, job_id: int) -> Job:
        if job_id not in self.jobs:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Job {job_id} does not exist.")
        return self.jobs[job_id]

    def _run(self, run_id: int) -> Run:
        for run in self.runs():
            if run.run_id == run_id:
                return run
        raise Refused(400, "INVALID_PARAMETER_VALUE", f"Run {run_id} does not exist.")

    def _settle(self) -> None:
        """What has happened to the runs meanwhile. One at a time: max_concurrent_runs is 1, and others queue."""
        for job in self.jobs.values():
            for run in job.runs:
                if run.state in {"RUNNING", "TERMINATING"} and run.process:
                    self._look(run)
            waiting = [run for run in job.runs if run.state in {"QUEUED", "PENDING"}]
            for run in waiting:
                if run.cancelled:
                    self._end(run, "USER_CANCELED", "CLIENT_ERROR", "Run cancelled.")
            busy = any(run.state in {"RUNNING", "TERMINATING"} for run in job.runs)
            if not busy and (run_next := next((run for run in job.runs if run.state in {"QUEUED", "PENDING"}), None)):
                run_next.state = "PENDING"
                if time.time() - run_next.started >= self.cold:
                    self._begin(run_next)

    def _begin(self, run: Run) -> None:
        if self.endings:
            self._end(run, *self.endings.pop(0))
            return
        job = next(job for job in self.jobs.values() if run in job.runs)
        [task] = job.settings["tasks"]
        [installed] = [one["spec"] for one in job.settings["environments"] if one["environment_key"] == task["environment_key"]]
        wheel = next(name for name in installed["dependencies"] if ".whl" in name).partition("[")[0]
        if not self.volume(wheel).is_file():
            self._end(run, "LIBRARY_INSTALLATION_ERROR", "CLIENT_ERROR", f"{wheel} is not there")
            return
        run.state = "RUNNING"
        output = self.folder / f"run-{run.run_id}.log"
        run.output = str(output)
        called = [task["python_wheel_task"]["package_name"], task["python_wheel_task"]["entry_point"]]
        values = {f"job.parameters.{name}": value for name, value in run.parameters.items()} | {"job.run_id": str(run.run_id)}
        given = [
            re.sub(r"\{\{([^}]*)\}\}", lambda found: values[found[1]], parameter) for parameter in task["python_wheel_task"]["parameters"]
        ]
        command = [sys.executable, "-P", "-m", "tests.databricks.cluster", str(self.storage), *called, *given]
        # The job's own identity, and nothing of who started it; the code is the wheel's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DATABRICKS_", "CAR_DAMAGE_", "PREFECT_"))}
        environment["PYTHONPATH"] = f"{self._unpacked(wheel)}{os.pathsep}{ROOT}"
        with output.open("wb") as file:
            run.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)

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
        code = run.process.poll()
        if code is None:
            return
        if run.cancelled:
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

    def _file(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        where = self.volume(path)
        if method == "PUT":
            self._only(query, {"overwrite"})
            if where.is_dir():
                raise Refused(409, "ALREADY_EXISTS", f"{path} is a directory")
            # Documented for directories only; an upload into one that is not there is taken as refused.
            if not where.parent.is_dir():
                raise Refused(404, "NOT_FOUND", f"The parent directory of {path} does not exist")
            with self.lock:
                if where.exists() and query.get("overwrite") != "true":
                    raise Refused(409, "ALREADY_EXISTS", f"The file {path} already exists")
                part = self.folder / uuid.uuid4().hex  # an upload is there whole, or not at all
                part.write_bytes(body or b"")
                part.replace(where)
            return b""
        if method in {"GET", "HEAD"}:
            if not where.is_file():
                raise Refused(404, "NOT_FOUND", f"The file {path} does not exist")
            return where.read_bytes()
        self.strange.append(f"{method} {path}")
        raise Refused(405, "METHOD_NOT_ALLOWED", method)

    def _directory(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        where = self.volume(path)
        if method == "PUT":
            if len(Path(path).parts) < 5 or not self.volume("/".join(Path(path).parts[:5])[1:]).is_dir():
                raise Refused(404, "NOT_FOUND", f"The volume of {path} does not exist")
            where.mkdir(parents=True, exist_ok=True)
            return b""
        if method != "GET":
            self.strange.append(f"{method} {path}")
            raise Refused(405, "METHOD_NOT_ALLOWED", method)
        self._only(query, {"page_token", "page_size"})
        if not where.is_dir():
            raise Refused(404, "NOT_FOUND", f"The directory {path} does not exist")
        entries = []
        for child in sorted(where.iterdir()):
            told = {"path": f"{path.rstrip('/')}/{child.name}", "name": child.name, "is_directory": child.is_dir()}
            if child.is_file():
                told |= {"file_size": child.stat().st_size, "last_modified": int(child.stat().st_mtime * 1000)}
            entries.append(told)
        return _page("contents", entries, query)

    def _download_url(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"path", "expire_time"})
        if not self.volume(query["path"]).is_file():
            raise Refused(404, "NOT_FOUND", f"The file {query['path']} does not exist")
        return {"url": f"{self.host}/api/2.0/fs/files{query['path']}", "headers": []}

    def _only(self, given: dict[str, Any], known: set[str], needed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        if not isinstance(given, dict):
            raise Refused(400, "MALFORMED_REQUEST", "a JSON object is expected")
        if unknown := set(given) - known:
            self.strange.append(f"fields {sorted(unknown)}")
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"unknown fields {sorted(unknown)}")
        if missing := needed - set(given):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"missing fields {sorted(missing)}")


class _Handler(BaseHTTPRequestHandler):
    workspace: Twin
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = urlsplit(self.path)
        twin = self.workspace
        twin.asked.append(f"{self.command} {address.path}")
        fault = self._fault(address.path)
        if fault and fault.kind == "reset before":
            self._reset()
            return
        try:
            self._refuse(fault)
            status, answer = 200, self._done(address.path, dict(parse_qsl(address.query)), raw)
        except Refused as error:
            status, answer = error.status, {"error_code": error.code, "message": error.message}
            if address.path.startswith("/oidc/"):
                answer = {"error": error.code, "error_description": error.message}
        if fault and fault.kind == "reset after":
            self._reset()
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        if not isinstance(answer, bytes):
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _done(self, path: str, query: dict[str, str], raw: bytes) -> Any:
        twin = self.workspace
        if path == "/.well-known/databricks-config":
            return {"oidc_endpoint": f"{twin.host}/oidc", "account_id": "5c3e-account"}
        if path == "/oidc/.well-known/oauth-authorization-server":
            return {"authorization_endpoint": f"{twin.host}/oidc/v1/authorize", "token_endpoint": f"{twin.host}/oidc/v1/token"}
        if path == "/oidc/v1/token":
            return self._token(raw)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given not in twin.pats and twin.access.get(given, 0) < time.time():
            raise Refused(401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type for this API.")
        if self.command in {"POST", "PUT"} and not path.startswith("/api/2.0/fs/"):
            try:
                body = json.loads(raw or b"{}")
            except ValueError as error:
                raise Refused(400, "MALFORMED_REQUEST", "no JSON") from error
        else:
            body = raw
        return twin.answer(self.command, path, query, body)

    @staticmethod
    def _refuse(fault: Fault | None) -> None:
        if fault and isinstance(fault.kind, int):
            codes = {429: "RESOURCE_EXHAUSTED", 503: "TEMPORARILY_UNAVAILABLE"}
            raise Refused(fault.kind, codes.get(fault.kind, "INTERNAL_ERROR"), "not now")

    def _token(self, raw: bytes) -> Any:
        twin = self.workspace
        wanted = dict(parse_qsl(raw.decode()))
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {basic}" or wanted.get("grant_type") != "client_credentials":
            raise Refused(401, "invalid_client", "Client authentication failed")
        token = f"oauth-{uuid.uuid4().hex}"
        twin.access[token] = time.time() + twin.lifetime
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(twin.lifetime), "scope": "all-apis"}

    def _fault(self, path: str) -> Fault | None:
        twin = self.workspace
        plain = "/" + path.removeprefix("/api/").partition("/")[2]
        with twin.lock:
            for fault in twin.faults:
                if fault.method == self.command and plain.startswith(fault.path) and fault.seen < fault.times:
                    fault.seen += 1
                    return fault
        return None

    def _reset(self) -> None:
        # With no time to linger the connection ends by a reset, as behind a proxy that is restarted.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            socket.close(os.dup(self.connection.fileno()))
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = _answer  # noqa: N815 - names that the base class looks for


def _page(name: str, entries: list[Any], query: dict[str, str]) -> dict[str, Any]:
    start = int(query.get("page_token", "0"))
    more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(entries) else {}
    return {name: entries[start : start + PAGE], **more} if entries else {}


def _lean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lean(inner) for key, inner in value.items() if inner not in (0, "", False)}
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return [_lean(entry) for entry in reversed(value)]
    return value


def _certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 for itself, valid for a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Twin]:
    """A workspace for the length of the block, at whose end nothing strange must have been asked of it."""
    with Twin(folder) as twin:
        yield twin
    shutil.rmtree(twin.storage, ignore_errors=True)
    assert not twin.strange, twin.strange
