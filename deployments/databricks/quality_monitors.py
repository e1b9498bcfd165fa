"""Databricks' data profiling (formerly Lakehouse Monitoring) of the request log and of silver, if `databricks.quality_monitors` is on.

A table has one monitor at most, which fills two tables of metrics and a dashboard. A monitor that is there is adopted: what the settings
say is put right, and the rest of it stays. One with another type of profile is somebody else's. Without the setting nothing is removed,
and doctor says what is left.

Versions of databricks-sdk before 0.68 lack this API, so its requests are sent as DataQualityAPI sends them.
Source: https://docs.databricks.com/api/data-quality/v1/monitor
"""

from functools import partial
from typing import Any

from car_damage.adapters.databricks import workspace
from car_damage.errors import SettingsError
from car_damage.settings import Settings
from deployments.administrator import NotVisible, permitted
from deployments.databricks.differences import differences
from deployments.databricks.existence import create_once
from deployments.databricks.principal import Api
from deployments.items import ABSENT, DIFFERS, Item
from tasks.commands import BOOTSTRAP

MONITORS = "/api/data-quality/v1/monitors"
TYPES = frozenset({"inference_log", "snapshot", "time_series"})
"""The types of a profile. A monitor has one."""
FAILED = frozenset({"DATA_PROFILING_STATUS_ERROR", "DATA_PROFILING_STATUS_FAILED"})
_READS = "SELECT on the table, or MANAGE on its schema"
_NEEDS = "MANAGE and SELECT on the table, which its owner has; and CREATE TABLE and USE SCHEMA on its schema"


def profiles(settings: Settings) -> dict[str, dict[str, Any]]:
    """Full name of a table -> the profile of its monitor, as the API takes it."""
    inference_log = {
        "problem_type": "INFERENCE_PROBLEM_TYPE_CLASSIFICATION",
        "timestamp_column": "answered",
        "model_id_column": "model_version",
        "prediction_column": "label",
        "granularities": ["AGGREGATION_GRANULARITY_1_DAY"],
    }
    return {settings.tables.inference_log: {"inference_log": inference_log}, settings.tables.silver: {"snapshot": {}}}


def items(settings: Settings, api: Api) -> list[Item]:
    """The monitor of each table. No run needs one."""
    if not settings.databricks.quality_monitors:
        return []
    return [
        Item(f"quality monitor of {table}", partial(_check, api, settings, table), partial(_write, api, settings, table), vital=False)
        for table in profiles(settings)
    ]


def left(settings: Settings, api: Api) -> str:
    """Whether bootstrap has made monitors that are still there although they are switched off.

    Raises:
        SettingsError: there is one, with what removes it.
    """
    from databricks.sdk.errors import BadRequest, PermissionDenied

    for table in profiles(settings):
        with workspace.translated(_reading(table), needs=_READS):
            try:
                number, there = _found(api, table)
            except NotVisible:
                continue
            except (BadRequest, PermissionDenied):  # the workspace may lack this API, which is a preview
                return f"off; the workspace does not tell whether {table} still has one"
        if there and str(there.get("assets_dir")).startswith(settings.databricks.quality_folder):
            metrics = " and ".join(str(there.get(f"{kind}_metrics_table_name")) for kind in ("profile", "drift"))
            raise SettingsError(
                f"databricks.quality_monitors is off, and {table} still has a monitor: `{_removes(number)}` removes it; "
                f"then its tables {metrics} and its dashboard in {there['assets_dir']} can be dropped"
            )
    return "off"


def _reading(table: str) -> str:
    return f"reading the quality monitor of {table}"


def _removes(table_id: str | None) -> str:
    return f"databricks data-quality delete-monitor table {table_id}"


def _read(api: Api, table_id: str | None) -> dict[str, Any]:
    answer: Any = api().api_client.do("GET", f"{MONITORS}/table/{table_id}")
    found: dict[str, Any] = answer["data_profiling_config"]
    return found


def _found(api: Api, table: str) -> tuple[str | None, dict[str, Any] | None]:
    """The id of a table, and the configuration of its monitor, or None.

    Raises:
        NotVisible: there is no such table.
        databricks.sdk.errors.DatabricksError: other refusals.
    """
    from databricks.sdk.errors import NotFound

    try:
        number = api().tables.get(table).table_id
    except NotFound:
        raise NotVisible(f"the table is not there yet: when a run has made it, run `{BOOTSTRAP}` again") from None
    try:
        return number, _read(api, number)
    except NotFound:
        return number, None


def _wanted(settings: Settings, table: str) -> dict[str, Any]:
    ours = settings.databricks
    emails = {"notification_settings": {"on_failure": {"email_addresses": list(ours.quality_emails)}}} if ours.quality_emails else {}
    schedule = {"quartz_cron_expression": ours.quality_schedule, "timezone_id": "UTC"}
    return {**profiles(settings)[table], "schedule": schedule, **emails}


def _check(api: Api, settings: Settings, table: str) -> str | None:
    with workspace.translated(_reading(table), needs=_READS):
        number, there = _found(api, table)
    if there is None:
        return ABSENT
    wanted = _wanted(settings, table)
    if others := {kind for kind in TYPES - set(wanted) if there.get(kind) is not None}:
        raise SettingsError(
            f"{table} has a monitor with the profile {', '.join(others)}, which bootstrap has not made, and a table has one monitor: "
            f"set databricks.quality_monitors to false, or remove it by `{_removes(number)}`"
        )
    if told := differences(wanted, there):
        return f"{DIFFERS}{'; '.join(told)}"
    if there.get("status") in FAILED:
        raise SettingsError(f"the monitor of {table} is {there['status']}: {there.get('latest_monitor_failure_message')}")
    return None


def _write(api: Api, settings: Settings, table: str) -> None:
    wanted, client = _wanted(settings, table), api().api_client
    with permitted(f"writing the quality monitor of {table}", needs=_NEEDS, command=BOOTSTRAP):
        number, there = _found(api, table)
        if there is None:
            body = _body(number, {**_made_with(api, settings, table), **wanted})
            create_once(lambda: client.do("POST", MONITORS, body=body))
            return
        body = _body(number, {"output_schema_id": there.get("output_schema_id"), **wanted})
        mask = ",".join(f"data_profiling_config.{field}" for field in wanted)
        client.do("PATCH", f"{MONITORS}/table/{number}", query={"update_mask": mask}, body=body)


def _made_with(api: Api, settings: Settings, table: str) -> dict[str, Any]:
    """What only a new monitor gets. The schema is the table's own, where the service's principal may create tables."""
    warehouse = settings.databricks.warehouse
    return {
        "output_schema_id": api().schemas.get(table.rpartition(".")[0]).schema_id,
        "assets_dir": f"{settings.databricks.quality_folder}{table}",
        **({"warehouse_id": warehouse} if warehouse else {}),
    }


def _body(number: str | None, config: dict[str, Any]) -> dict[str, Any]:
    return {"object_type": "table", "object_id": number, "data_profiling_config": config}
