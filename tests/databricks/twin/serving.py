"""Model Serving: this project's endpoint server, behind the checks that only a workspace makes.

Source: https://docs.databricks.com/api/workspace/servingendpoints
"""

import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

from tests.databricks.twin.core import Refused, WithHeaders, folded
from tests.databricks.twin.mounted import Mounted, free_port
from tests.databricks.twin.permissions import Permissions

_API = "/api/2.0/serving-endpoints"
_ENTITY = {"name", "entity_name", "entity_version", "workload_size", "workload_type", "scale_to_zero_enabled", "environment_vars"}
_MOST_TAGS = 20


class ServingApi(Permissions):
    """Serving endpoints."""

    registered: dict[str, Any]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.endpoints: dict[str, str] = {}
        """Name of an endpoint -> its id."""
        self.gateways: dict[str, Any] = {}
        """Name of an endpoint -> its AI Gateway."""
        self.tags: dict[str, dict[str, str]] = {}
        self.never_done = False
        """If true, every update stays in progress."""
        self.canned: Any = None
        """What each query is answered, in place of a model's answer."""
        self._endpoints: Mounted | None = None
        self._token = ""
        self._endpoints_start = threading.Lock()

    def _of_serving(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        if method == "POST" and (asked := re.fullmatch(r"/serving-endpoints/([\w-]+)/invocations", path)):
            self._may_serve(asked[1], "CAN_QUERY")
            return self._ask("POST", path, body) if self.canned is None else WithHeaders(self.canned, {"served-model-name": "model-7"})
        if not (path == _API or path.startswith(f"{_API}/")):
            return None
        name, _, rest = path.removeprefix(_API).strip("/").partition("/")
        if name:
            self._may_serve(name, "CAN_VIEW" if method == "GET" else "CAN_MANAGE")
        if method == "GET" and re.fullmatch(r"served-models/[\w-]+/build-logs", rest):
            return self._ask("GET", path)
        handle = {
            ("POST", ""): self._create,
            ("GET", ""): self._get,
            ("PUT", "config"): self._update,
            ("PUT", "ai-gateway"): self._put_gateway,
            ("PATCH", "tags"): self._patch_tags,
        }.get((method, rest))
        if handle is None or bool(name) == (handle == self._create):
            self.strange.append(f"{method} {path}")
            raise Refused(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path}'")
        return handle(name, body)

    def stop_serving(self) -> None:
        if self._endpoints is not None:
            self._endpoints.stop()

    def _may_serve(self, name: str, level: str) -> None:
        if name not in self.endpoints:
            raise Refused(404, "RESOURCE_DOES_NOT_EXIST", f"The endpoint {name} does not exist.")
        self.need_level("serving-endpoints", self.endpoints[name], level)

    def _create(self, _: str, body: Any) -> Any:
        self._only(body, {"name", "config", "tags", "ai_gateway", "description"}, {"name", "config"})
        self._only(body["config"], {"name", "served_entities", "traffic_config"}, {"served_entities"})
        self._check_config(body["config"])
        tags = self._tags(body.get("tags", []), {})
        gateway = self._gateway(body["ai_gateway"]) if "ai_gateway" in body else None
        made = self._ask("POST", _API, {key: value for key, value in body.items() if key not in {"tags", "ai_gateway"}})
        self.endpoints[body["name"]] = made["id"]
        self.levels["serving-endpoints", made["id"]] = {self.caller: "CAN_MANAGE"}
        self.tags[body["name"]] = tags
        if gateway is not None:
            self.gateways[body["name"]] = gateway
        return made

    def _get(self, name: str, _: Any) -> Any:
        if self._endpoints is None:  # a test added the endpoint without a server
            return {"name": name, "id": self.endpoints[name], "state": {"ready": "READY", "config_update": "NOT_UPDATING"}}
        found = self._ask("GET", f"{_API}/{name}")
        if self.never_done:
            found["state"]["config_update"] = "IN_PROGRESS"
        if name in self.gateways:
            found["ai_gateway"] = self.gateways[name]
        return found | {"tags": [{"key": key, "value": value} for key, value in self.tags[name].items()]}

    def _update(self, name: str, body: Any) -> Any:
        self._only(body, {"served_entities", "traffic_config"}, {"served_entities"})
        self._check_config(body)
        return self._ask("PUT", f"{_API}/{name}/config", body)

    def _put_gateway(self, name: str, body: Any) -> Any:
        wanted, table = self._gateway(body), self.gateways.get(name, {}).get("inference_table_config", {})
        renamed = any(table.get(key) != value for key, value in wanted.get("inference_table_config", {}).items() if key != "enabled")
        if table.get("enabled") and renamed:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "Disable the inference table first in order to change its names")
        self.gateways[name] = wanted  # the new configuration replaces the previous one
        return body

    def _patch_tags(self, name: str, body: Any) -> Any:
        self._only(body, {"add_tags", "delete_tags"})
        self.tags[name] = self._tags(body.get("add_tags", []), self.tags[name])
        return {"tags": [{"key": key, "value": value} for key, value in self.tags[name].items()]}

    def _tags(self, given: Any, there: dict[str, str]) -> dict[str, str]:
        for tag in given:
            self._only(tag, {"key", "value"}, {"key"})
        tags = there | {tag["key"]: tag.get("value", "") for tag in given}
        if len(tags) > _MOST_TAGS or len({tag["key"] for tag in given}) < len(given):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"an endpoint may have {_MOST_TAGS} tags, each key once")
        return tags

    def _check_config(self, config: Any) -> None:
        for entity in config["served_entities"]:
            # Documented as optional, but an update without it would turn it off.
            self._typed(entity, entity_name=str, entity_version=str, scale_to_zero_enabled=bool)
            self._only(entity, _ENTITY, {"entity_name", "entity_version", "workload_size", "scale_to_zero_enabled"})
            if not re.fullmatch(r"[A-Za-z0-9_-]+", entity.get("name", "x")):  # databricks-sdk, ServedEntityInput.name
                raise Refused(
                    400, "INVALID_PARAMETER_VALUE", "A served entity name has alphanumeric characters, dashes, and underscores only"
                )
            entity["entity_name"] = folded(entity["entity_name"])
            model = self.registered.get(entity["entity_name"])
            version = model and model.versions.get(int(entity["entity_version"]))
            if version is None or version.status != "READY":
                message = f"Model version {entity['entity_name']} {entity['entity_version']} is not there, or not READY"
                raise Refused(
                    404 if version is None else 400, "RESOURCE_DOES_NOT_EXIST" if version is None else "INVALID_PARAMETER_VALUE", message
                )

    def _gateway(self, body: Any) -> Any:
        self._only(body, {"inference_table_config", "fallback_config", "guardrails", "rate_limits", "usage_tracking_config"})
        if "inference_table_config" not in body:
            return body
        table = body["inference_table_config"]
        self._only(table, {"catalog_name", "schema_name", "table_name_prefix", "enabled"}, {"enabled"})
        if table["enabled"]:
            self._only(table, set(table), {"catalog_name", "schema_name"})
        return body

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        server = self._server_of_endpoints()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        return server.ask(method, path, {}, body, headers, telling=("served-model-name",))

    def _server_of_endpoints(self) -> Mounted:
        with self._endpoints_start:
            if self._endpoints is None:
                port, home = free_port(), self.folder / "endpoints"
                strangers = ("DATABRICKS_", "CAR_DAMAGE_", "PREFECT_", "MLFLOW_")
                environment = {name: value for name, value in os.environ.items() if not name.startswith(strangers)}
                # Model Serving reads models with the identity of the endpoint's owner.
                environment |= self.environment | {
                    "CAR_DAMAGE_HOME": str(home),
                    "CAR_DAMAGE_TRACKING__URI": "databricks",
                    "CAR_DAMAGE_TRACKING__REGISTRY_URI": "databricks-uc",
                    "CAR_DAMAGE_SERVING__HOST": f"http://127.0.0.1:{port}",
                }
                command = [sys.executable, "-c", "from car_damage.cli import app; app()", "serve"]
                self._endpoints = Mounted(command, port, self.folder / "endpoints.log", environment)
                self._token = (home / "endpoint" / "token").read_text().strip()
            return self._endpoints
