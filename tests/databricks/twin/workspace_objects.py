"""Workspace objects: the current user, folders, experiments, and access control lists of jobs, experiments and endpoints.

Sources: https://docs.databricks.com/api/workspace/currentuser, .../workspace, .../experiments, .../permissions
"""

from pathlib import Path, PurePosixPath
from typing import Any

from tests.databricks.twin.core import Handle, Refused
from tests.databricks.twin.permissions import ADMIN, CLIENT, LEVELS, PRINCIPALS, Permissions


class WorkspaceObjectsApi(Permissions):
    """The current user, folders, experiments and access control lists."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folders: dict[str, str | None] = {
            "/": ADMIN,
            "/Shared": None,
            "/Users": ADMIN,
            f"/Users/{ADMIN}": ADMIN,
            f"/Users/{CLIENT}": CLIENT,
        }
        """Path -> user who may create objects in it; None means everybody."""
        self.experiments: dict[str, str] = {}
        """Path of an experiment -> its id."""
        self.experiment_tags: dict[str, dict[str, str]] = {}
        """Id of an experiment -> key -> value."""
        self.deleted: set[str] = set()
        """Ids of deleted experiments."""

    def _of_workspace(self) -> dict[tuple[str, str], Handle]:
        return {
            ("GET", "/api/2.0/preview/scim/v2/Me"): self._me,
            ("GET", "/api/2.0/workspace/get-status"): self._get_status,
            ("POST", "/api/2.0/workspace/mkdirs"): self._mkdirs,
            ("GET", "/api/2.0/mlflow/experiments/get-by-name"): self._experiment,
            ("POST", "/api/2.0/mlflow/experiments/create"): self._create_experiment,
            ("POST", "/api/2.0/mlflow/experiments/set-experiment-tag"): self._tag_experiment,
        }

    def _with_permissions(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        start, _, rest = path.partition("/api/2.0/permissions/")
        kind, _, found = rest.partition("/")
        if not start and kind in LEVELS and found and "/" not in found:
            if (kind, found) not in self.levels:
                raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"{kind} {found} does not exist.")
            if method == "GET":
                return self._permissions(kind, found, query)
            if method == "PATCH":
                return self._permit(kind, found, body)
        return None

    def _me(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, set())
        # A service principal's userName is its application id. Workspace groups are not groups of Unity Catalog.
        return {"id": "1", "userName": self.caller, "groups": [{"display": "admins" if self.caller == ADMIN else "users", "value": "2"}]}

    def _get_status(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"path"}, {"path"})
        if query["path"] not in self.folders:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({query['path']}) doesn't exist.")
        return {"path": query["path"], "object_type": "DIRECTORY", "object_id": 7}

    def _mkdirs(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"path"}, {"path"})
        path = PurePosixPath(body["path"])
        for folder in [*reversed(path.parents), path]:
            if str(folder) not in self.folders:
                self._may_make_in(str(folder.parent))
                self.folders[str(folder)] = self.caller
        return {}

    def _may_make_in(self, folder: str) -> None:
        if folder == "/Users":
            raise Refused(400, "DIRECTORY_PROTECTED", "Folder Users is protected")
        if self.caller not in {ADMIN, self.folders[folder] or self.caller}:
            raise Refused(403, "PERMISSION_DENIED", f"{self.caller} does not have Edit permissions on {folder}.")

    def _experiment(self, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"experiment_name"}, {"experiment_name"})
        name = query["experiment_name"]
        if name not in self.experiments:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Node {name} does not exist.")
        self.need_level("experiments", self.experiments[name], "CAN_READ")
        # "This endpoint will return deleted experiments" (databricks-sdk, ExperimentsAPI.get_by_name).
        number = self.experiments[name]
        stage = "deleted" if number in self.deleted else "active"
        tags = [{"key": key, "value": value} for key, value in self.experiment_tags[number].items()]
        return {"experiment": {"experiment_id": number, "name": name, "lifecycle_stage": stage, "tags": tags}}

    def _create_experiment(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"name", "artifact_location", "tags"}, {"name"})
        name = body["name"]
        if not name.startswith("/"):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"Got an invalid experiment name '{name}'. An absolute path is expected.")
        parent = str(PurePosixPath(name).parent)
        if parent not in self.folders:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Parent directory {parent} does not exist.")
        self._may_make_in(parent)
        if name in self.experiments:
            raise Refused(400, "RESOURCE_ALREADY_EXISTS", f"Node named '{name}' already exists")
        number = self.experiments[name] = str(len(self.experiments) + 1)
        self.experiment_tags[number] = {tag["key"]: tag["value"] for tag in body.get("tags", [])}
        self.levels["experiments", number] = {self.caller: "CAN_MANAGE"}
        return {"experiment_id": number}

    def _tag_experiment(self, query: dict[str, str], body: Any) -> Any:
        self._only(body, {"experiment_id", "key", "value"}, {"experiment_id", "key", "value"})
        if body["experiment_id"] not in self.experiment_tags:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"Node ID {body['experiment_id']} does not exist.")
        self.need_level("experiments", body["experiment_id"], "CAN_EDIT")
        self.experiment_tags[body["experiment_id"]][body["key"]] = body["value"]
        return {}

    def _permissions(self, kind: str, found: str, query: dict[str, str]) -> Any:
        """The documentation names no permission for reading the list. The twin follows the stricter reading, the permission to change it
        (https://github.com/databricks/cli/issues/900 shows such a refusal for a cluster)."""
        self._only(query, set())
        self.need_level(kind, found, "CAN_MANAGE")
        entries: list[Any] = [{"group_name": "admins", "all_permissions": [{"permission_level": "CAN_MANAGE", "inherited": True}]}]
        for name, level in self.levels.get((kind, found), {}).items():
            field = "user_name" if "@" in name else "service_principal_name"
            entries.append({field: name, "all_permissions": [{"permission_level": level, "inherited": False}]})
        return {"object_id": f"/{kind}/{found}", "object_type": kind[:-1], "access_control_list": entries}

    def _permit(self, kind: str, found: str, body: Any) -> Any:
        self._only(body, {"access_control_list"}, {"access_control_list"})
        self.need_level(kind, found, "CAN_MANAGE")
        for entry in body["access_control_list"]:
            self._only(entry, {"user_name", "group_name", "service_principal_name", "permission_level"}, {"permission_level"})
            [name] = [value for field, value in entry.items() if field != "permission_level"]
            if ("service_principal_name" in entry) == ("@" in name) or name not in PRINCIPALS:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"Principal: ({name}) does not exist")
            if entry["permission_level"] not in LEVELS[kind]:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"{entry['permission_level']} is no permission of {kind}")
            self.levels.setdefault((kind, found), {})[name] = entry["permission_level"]
        return self._permissions(kind, found, {})
