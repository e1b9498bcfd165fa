"""Removal of securables, experiments and endpoints, which only `python -m deployments smoke` asks for.

Sources: https://docs.databricks.com/api/workspace/schemas/delete, .../volumes/delete, .../registeredmodels/delete, .../tables,
.../experiments/deleteexperiment, .../servingendpoints/delete
"""

import shutil
from typing import Any
from urllib.parse import unquote

from tests.databricks.twin.catalog import ROOT, CatalogApi
from tests.databricks.twin.core import Refused
from tests.databricks.twin.permissions import denied
from tests.databricks.twin.registry import RegistryApi
from tests.databricks.twin.serving import ServingApi
from tests.databricks.twin.workspace_objects import WorkspaceObjectsApi

_KINDS = {"schemas": "schema", "volumes": "volume", "models": "function", "tables": "table"}


class RemovalApi(CatalogApi, RegistryApi, WorkspaceObjectsApi, ServingApi):
    """What removes."""

    def _of_removal(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        if (method, path) == ("POST", "/api/2.0/mlflow/experiments/delete"):
            return self._delete_experiment(body)
        if (method, path) == ("GET", f"{ROOT}/tables"):
            return self._list_tables(query)
        if method != "DELETE":
            return None
        what, _, name = unquote(path.removeprefix(f"{ROOT}/")).partition("/")
        if path.startswith(f"{ROOT}/") and what in _KINDS and name:
            return self._delete_securable(_KINDS[what], name, query)
        start, _, endpoint = path.partition("/api/2.0/serving-endpoints/")
        if not start and endpoint and "/" not in endpoint:
            self._may_serve(endpoint, "CAN_MANAGE")
            answer = self._ask("DELETE", path)
            del self.endpoints[endpoint], self.tags[endpoint]
            return answer or {}
        return None

    def _list_tables(self, query: dict[str, str]) -> Any:
        self._only(query, {"catalog_name", "schema_name", "max_results", "page_token"}, {"catalog_name", "schema_name"})
        schema = f"{query['catalog_name']}.{query['schema_name']}"
        self._exists("schema", schema)
        found = [name for name in sorted(self.tables) if name.rpartition(".")[0] == schema]
        return {"tables": [{"name": name.rpartition(".")[2], "full_name": name} for name in found]}

    def _delete_securable(self, kind: str, name: str, query: dict[str, str]) -> Any:
        self._only(query, {"force"})
        if kind == "table":
            self.tables.pop(name, None)
            return {}
        self._exists(kind, name)
        if not self.manages(kind, name):
            raise denied("MANAGE", kind, name)
        if kind == "function":
            if self.registered.get(name) and self.registered[name].versions:
                raise Refused(400, "INVALID_STATE", f"Registered Model '{name}' has versions")
            del self.models[name]
            self.registered.pop(name, None)
            return {}
        folder = self.storage.joinpath(*name.split("."))
        inside = [
            *(folder.iterdir() if folder.is_dir() else ()),
            *(one for one in (*self.models, *self.tables) if one.startswith(f"{name}.")),
        ]
        if kind == "schema" and inside:
            raise Refused(400, "INVALID_STATE", f"Schema '{name}' is not empty.")
        shutil.rmtree(folder, ignore_errors=True)
        self.schemas.discard(name)
        self.owners.pop((kind, name), None)
        return {}

    def _delete_experiment(self, body: Any) -> Any:
        self._only(body, {"experiment_id"}, {"experiment_id"})
        self.need_level("experiments", body["experiment_id"], "CAN_MANAGE")
        self.deleted.add(body["experiment_id"])
        return {}
