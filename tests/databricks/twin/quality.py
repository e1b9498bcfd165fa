"""Monitors of data quality, as far as bootstrap attaches profiles to tables. Profiles are never computed.

Sources: https://docs.databricks.com/api/data-quality/v1/monitor, databricks-sdk's DataQualityAPI and its dataclasses,
https://docs.databricks.com/aws/en/data-governance/unity-catalog/data-quality-monitoring/data-profiling/create-monitor-api,
answers of a workspace in databricks-solutions/ai-dev-kit, databricks-skills/databricks-unity-catalog/8-quality-monitors.md
"""

import re
from pathlib import Path
from typing import Any

from tests.databricks.twin.catalog import CatalogApi
from tests.databricks.twin.core import Refused
from tests.databricks.twin.permissions import denied

_API = "/api/data-quality/v1/monitors"
_TYPES = {"inference_log", "snapshot", "time_series"}
_INFERENCE_LOG = {"problem_type", "timestamp_column", "granularities", "prediction_column", "model_id_column"}
_UPDATABLE = _TYPES | {"baseline_table_name", "custom_metrics", "notification_settings", "schedule", "slicing_exprs"}
_SETTABLE = _UPDATABLE | {"output_schema_id", "assets_dir", "skip_builtin_dashboard", "warehouse_id"}
_GRANULARITIES = {
    f"AGGREGATION_GRANULARITY_{period}"
    for period in ("5_MINUTES", "30_MINUTES", "1_HOUR", "1_DAY", "1_WEEK", "2_WEEKS", "3_WEEKS", "4_WEEKS", "1_MONTH", "1_YEAR")
}


class QualityApi(CatalogApi):
    """Monitors of tables."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.monitors: dict[str, dict[str, Any]] = {}
        """Id of a table -> the configuration of its profile."""
        self.columns: dict[str, dict[str, str]] = {}
        """Full name of a table -> column -> its type in Spark."""

    def _of_quality(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """The answer, or None for a path of another API."""
        if (method, path) == ("POST", _API):
            return self._create_monitor(body)
        found = re.fullmatch(rf"{_API}/table/([^/]+)", path)
        if not found or method not in {"GET", "PATCH"}:
            return None
        name = self._table_of(found[1])
        if method == "PATCH":
            return self._update_monitor(name, query, body)
        if not self.manages("table", name):
            self.need("table", name, "SELECT")
        return self._monitor(found[1])

    def _table_of(self, number: str) -> str:
        for name, table_id in self.tables.items():
            if table_id == number:
                return name
        raise Refused(404, "NOT_FOUND", f"Table with ID {number} does not exist.")

    def _monitor(self, number: str) -> dict[str, Any]:
        if number not in self.monitors:
            raise Refused(404, "NOT_FOUND", f"Cannot find Monitor with ID: /metastores:m/tables:{number}/")
        return {"object_type": "table", "object_id": number, "data_profiling_config": self.monitors[number]}

    def _create_monitor(self, body: Any) -> Any:
        number, config = self._profile(body)
        name = self._table_of(number)
        if not self.manages("table", name):
            raise denied("MANAGE", "table", name)
        self.need("table", name, "SELECT")
        self._only(config, _SETTABLE, {"output_schema_id", "assets_dir"})
        schema = config["output_schema_id"].removeprefix("id-of-")
        self._exists("schema", schema)
        self._makes_in(schema, "CREATE_TABLE")
        if not config["assets_dir"].startswith("/"):
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"assets_dir {config['assets_dir']} is no absolute path")
        self._check_profile(name, config)
        if number in self.monitors:
            raise Refused(409, "ALREADY_EXISTS", f"Monitor for table {name} already exists.")
        output = f"{schema}.{name.rpartition('.')[2]}"
        tables = {f"{kind}_metrics_table_name": f"{output}_{kind}_metrics" for kind in ("profile", "drift")}
        self.monitors[number] = (
            config | tables | {"status": "DATA_PROFILING_STATUS_ACTIVE", "monitored_table_name": name, "dashboard_id": "d"}
        )
        self._unpaused(number)
        return self._monitor(number)

    def _update_monitor(self, name: str, query: dict[str, str], body: Any) -> Any:
        self._only(query, {"update_mask"}, {"update_mask"})
        number, config = self._profile(body)
        if not self.manages("table", name):
            raise denied("MANAGE", "table", name)
        there = self._monitor(number)["data_profiling_config"]
        self._only(config, _SETTABLE, {"output_schema_id"})
        self._check_profile(name, config)
        for path in query["update_mask"].split(","):
            start, _, field = path.partition(".")
            if start != "data_profiling_config" or field not in _UPDATABLE or (field in _TYPES and field not in there):
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"{path} cannot be updated")
            there[field] = config[field]
        self._unpaused(number)
        return self._monitor(number)

    def _unpaused(self, number: str) -> None:
        if schedule := self.monitors[number].get("schedule"):
            schedule["pause_status"] = "CRON_SCHEDULE_PAUSE_STATUS_UNPAUSED"

    def _profile(self, body: Any) -> tuple[str, dict[str, Any]]:
        needed = {"object_type", "object_id", "data_profiling_config"}
        self._only(body, needed, needed)
        if body["object_type"] != "table":
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"a {body['object_type']} has no data_profiling_config")
        return body["object_id"], body["data_profiling_config"]

    def _check_profile(self, name: str, config: dict[str, Any]) -> None:
        if len(_TYPES & set(config)) != 1:
            raise Refused(400, "INVALID_PARAMETER_VALUE", "Exactly one Analysis Configuration must be present.")
        if "inference_log" in config:
            self._check_inference_log(name, config["inference_log"])
        self._only(config.get("snapshot", {}), set())
        if schedule := config.get("schedule"):
            self._only(schedule, {"quartz_cron_expression", "timezone_id"}, {"quartz_cron_expression", "timezone_id"})
            fields = schedule["quartz_cron_expression"].split()
            if len(fields) not in {6, 7} or [fields[3], fields[5]].count("?") != 1:
                raise Refused(400, "INVALID_PARAMETER_VALUE", f"{schedule['quartz_cron_expression']} is no Quartz cron expression")
        if notified := config.get("notification_settings"):
            self._only(notified, {"on_failure"})
            # "Only supported on schema monitors; rejected on table monitors": destination_ids and destination_user_ids.
            self._only(notified["on_failure"], {"email_addresses"})
            if len(notified["on_failure"]["email_addresses"]) > 5:
                raise Refused(400, "INVALID_PARAMETER_VALUE", "A maximum of 5 email addresses is supported.")

    def _check_inference_log(self, name: str, profile: dict[str, Any]) -> None:
        self._only(profile, _INFERENCE_LOG | {"label_column"}, _INFERENCE_LOG)
        columns, classification = self.columns.get(name, {}), "INFERENCE_PROBLEM_TYPE_CLASSIFICATION"
        asked = [value for key, value in profile.items() if key.endswith("_column")]
        if unknown := [column for column in asked if column not in columns]:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"{name} has no columns {unknown}")
        if not profile["granularities"] or not set(profile["granularities"]) <= _GRANULARITIES:
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"granularities {profile['granularities']} are not known")
        if columns[profile["timestamp_column"]] != "timestamp":
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"{profile['timestamp_column']} is no TIMESTAMP")
        # Of a workspace: https://github.com/databricks/mlops-stacks/issues/195
        if profile["problem_type"] != classification and columns[profile["prediction_column"]] == "string":
            raise Refused(400, "INVALID_PARAMETER_VALUE", f"{name}'s prediction column must be a numeric type")
