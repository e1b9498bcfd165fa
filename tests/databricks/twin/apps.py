"""Databricks Apps, as far as bootstrap creates and deploys one, and the import of workspace files.

Sources: https://docs.databricks.com/api/workspace/apps, https://docs.databricks.com/api/workspace/workspace/import, and of databricks/cli
libs/testserver/apps.go and bundle/run/app.go: a stop takes the deployment away, and a start deploys the last files once more.
"""

import base64
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tests.databricks.twin.core import Handle, Refused
from tests.databricks.twin.serving import ServingApi
from tests.databricks.twin.workspace_objects import WorkspaceObjectsApi

_API = "/api/2.0/apps"
_SETTABLE = {"name", "description", "resources", "budget_policy_id", "user_api_scopes", "compute_size"}
_LARGEST = 10 << 20
"""Bytes of an app's file: https://docs.databricks.com/aws/en/dev-tools/databricks-apps/app-development."""
_RUNNING = {"state": "ACTIVE", "message": "App compute is running."}
_DEPLOYED = {"state": "SUCCEEDED", "message": "App started successfully"}


class AppsApi(WorkspaceObjectsApi, ServingApi):
    """Apps and their deployments."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.apps: dict[str, dict[str, Any]] = {}
        self.workspace_files: dict[str, bytes] = {}
        """Path -> content."""

    def _of_files_of_apps(self) -> dict[tuple[str, str], Handle]:
        return {("POST", "/api/2.0/workspace/import"): self._import}

    def _of_apps(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        found = re.fullmatch(rf"{_API}(?:/([\w-]+)(/deployments(?:/([\w-]+))?|/start|/stop)?)?", path)
        if found is None:
            return None
        name, part, deployment = found.groups()
        if name and name not in self.apps:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"App with name {name} does not exist or is deleted.")
        handle: dict[tuple[str, str | None], Callable[[], Any]] = {
            ("GET", None): lambda: self.apps[name],
            ("PATCH", None): lambda: self._update_app(name, body),
            ("POST", "/deployments"): lambda: self._deploy_app(name, body),
            ("GET", f"/deployments/{deployment}"): lambda: self._deployment(name, deployment),
            ("POST", "/start"): lambda: self._start_app(name),
            ("POST", "/stop"): lambda: self._stop_app(name),
        }
        if (method, name) == ("POST", None):
            return self._create_app(body)
        found_handle = handle.get((method, part)) if name else None
        return found_handle() if found_handle else None

    def _create_app(self, body: Any) -> Any:
        self._only(body, _SETTABLE, {"name"})
        name = body["name"]
        if not re.fullmatch(r"[a-z0-9-]{2,30}", name):
            raise Refused(400, "INVALID_PARAMETER_VALUE", "App name must contain only lowercase letters, numbers, and dashes.")
        if name in self.apps:
            raise Refused(409, "RESOURCE_ALREADY_EXISTS", f"An app with the same name already exists: {name}")
        self._check_resources(body)
        ready = {"compute_status": dict(_RUNNING), "deployments": []}
        self.apps[name] = {**body, **ready, "service_principal_name": f"app-{name}", "url": f"{self.host}/apps/{name}"}
        return self.apps[name]

    def _update_app(self, name: str, body: Any) -> Any:
        self._only(body, _SETTABLE)
        self._check_resources(body)
        kept = {key: value for key, value in self.apps[name].items() if key not in _SETTABLE - {"name"}}
        self.apps[name] = {**kept, **body}
        return self.apps[name]

    def _check_resources(self, body: Any) -> None:
        for one in body.get("resources", []):
            self._only(one, {"name", "description", "uc_securable", "serving_endpoint"}, {"name"})
            if volume := one.get("uc_securable"):
                self._only(
                    volume, {"securable_full_name", "securable_type", "permission"}, {"securable_full_name", "securable_type", "permission"}
                )
                if not self.storage.joinpath(*volume["securable_full_name"].split(".")).is_dir():
                    raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Volume {volume['securable_full_name']} does not exist.")
                volume["securable_kind"] = "VOLUME_STANDARD"  # a field that only answers have: AppResourceUcSecurable of databricks-sdk
            if endpoint := one.get("serving_endpoint"):
                self._only(endpoint, {"name", "permission"}, {"name", "permission"})
                if endpoint["name"] not in self.endpoints:
                    raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Serving endpoint {endpoint['name']} does not exist.")

    def _deploy_app(self, name: str, body: Any) -> Any:
        self._only(body, {"source_code_path", "mode", "env_vars", "command"}, {"source_code_path"})
        folder = body["source_code_path"].removeprefix("/Workspace")
        if f"{folder}/app.yaml" not in self.workspace_files:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Source code path {body['source_code_path']} does not exist.")
        for variable in body.get("env_vars", []):
            self._only(variable, {"name", "value", "value_from"}, {"name"})
        app = self.apps[name]
        if app["compute_status"]["state"] != "ACTIVE":
            raise Refused(400, "INVALID_STATE", f"Cannot deploy app {name}: start the app compute to deploy the app.")
        if app.get("active_deployment", {}).get("status", {}).get("state") == "IN_PROGRESS":
            raise Refused(409, "RESOURCE_CONFLICT", f"Cannot deploy app {name} as there is an active deployment in progress.")
        self._resolve(app, yaml.safe_load(self.workspace_files[f"{folder}/app.yaml"]).get("env", []), body.get("env_vars", []))
        made = {**body, "deployment_id": f"d{self._id()}", "status": dict(_DEPLOYED)}
        app["deployments"].append(made)
        app["active_deployment"], app["default_source_code_path"] = made, body["source_code_path"]
        return made

    def _resolve(self, app: dict[str, Any], declared: list[dict[str, str]], given: list[dict[str, str]]) -> None:
        """Refuses a variable whose value is to come from a resource that the app has not."""
        named = {one["name"] for one in app.get("resources", [])}
        for variable in (*declared, *given):
            if (resource := variable.get("valueFrom") or variable.get("value_from")) and resource not in named:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"Error resolving resource {resource} of the variable {variable['name']}.")

    def _deployment(self, name: str, deployment: str) -> Any:
        """A look at one that is in progress finds it done."""
        found = next(one for one in self.apps[name]["deployments"] if one["deployment_id"] == deployment)
        found["status"] = dict(_DEPLOYED)
        return found

    def _start_app(self, name: str) -> Any:
        app = self.apps[name]
        app["compute_status"] = dict(_RUNNING)
        if app["deployments"]:
            app["active_deployment"] = app["deployments"][-1]
            app["active_deployment"]["status"] = {"state": "IN_PROGRESS", "message": "Deploying the app"}
        return app

    def _stop_app(self, name: str) -> Any:
        self.apps[name].pop("active_deployment", None)
        self.apps[name]["compute_status"] = {"state": "STOPPED", "message": "Start the app compute to deploy the app."}
        return self.apps[name]

    def _import(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"path", "content", "format", "overwrite", "language"}, {"path", "content"})
        path, data = PurePosixPath(body["path"]), base64.b64decode(body["content"])
        if str(path.parent) not in self.folders:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"The parent folder ({path.parent}) does not exist.")
        self._may_make_in(str(path.parent))
        if str(path) in self.workspace_files and not body.get("overwrite"):
            raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"{path} already exists.")
        if len(data) > _LARGEST:
            raise Refused(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", "File size imported exceeded max size")
        self.workspace_files[str(path)] = data
        return {}
