"""Bootstrap attaches Databricks' data profiling to the request log and to silver, once, and puts right what the settings say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from car_damage.data.answers.inference_log import INFERENCE_LOG
from car_damage.settings import Databricks, Settings, Tables, Tracking
from deployments import doctor
from deployments.databricks import needs
from deployments.items import Item, apply, bootstrap
from deployments.smoke import place
from tests.databricks import twin as twins
from tests.databricks.test_twin import ask
from tests.databricks.twin import ADMIN_TOKEN, Twin

LOG, SILVER = "insurance_uc.gold.inference_log", "insurance_uc.silver.training_images"
SCHEDULE = {"quartz_cron_expression": "0 30 5 * * ?", "timezone_id": "UTC"}
API = "/api/data-quality/v1/monitors"
PROFILE = {
    "problem_type": "INFERENCE_PROBLEM_TYPE_CLASSIFICATION",
    "timestamp_column": "answered",
    "model_id_column": "model_version",
    "prediction_column": "label",
    "granularities": ["AGGREGATION_GRANULARITY_1_DAY"],
}


@pytest.fixture
def twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twin]:
    """A workspace where a run of the service principal, which this process is, has made the tables."""
    with twins.workspace(tmp_path / "workspace") as twin:
        for name, value in twin.environment.items():
            monkeypatch.setenv(name, value)
        twin.schemas |= {"insurance_uc.gold", "insurance_uc.silver"}
        twin.tables |= {LOG: "t-log", SILVER: "t-silver"}
        twin.columns[LOG] = {field.name: "timestamp" if pa.types.is_timestamp(field.type) else str(field.type) for field in INFERENCE_LOG}
        yield twin


def settings(**databricks: Any) -> Settings:
    return Settings(
        tables=Tables(engine="spark", names="catalog"), databricks=Databricks(stages="jobs", **{"quality_monitors": True, **databricks})
    )


def items(of: Settings) -> list[Item]:
    return [item for item in needs.items(of) if item.name.startswith("quality monitor of ")]


def problems(of: Settings) -> list[str | None]:
    return [result.problem for result in bootstrap(items(of))]


def told(of: Settings) -> doctor.Finding:
    [found] = [one for one in doctor.in_databricks(of) if one.name == "quality monitors"]
    return found


def writes(twin: Twin) -> int:
    return sum(not call.startswith("GET") for call in twin.asked)


def test_bootstrap_attaches_a_profile_to_each_table_once_and_only_if_it_is_asked_to(twin: Twin) -> None:
    assert items(settings(quality_monitors=False)) == []
    assert problems(settings(warehouse="w1")) == ["is missing", "is missing"]
    log, silver = twin.monitors["t-log"], twin.monitors["t-silver"]
    assert (log["inference_log"], silver["snapshot"]) == (PROFILE, {})
    for name, monitor in {LOG: log, SILVER: silver}.items():
        assert monitor["output_schema_id"] == f"id-of-{name.rpartition('.')[0]}"
        assert monitor["assets_dir"] == f"/Workspace/Shared/car-damage-quality/{name}"
        assert (SCHEDULE.items() <= monitor["schedule"].items(), monitor["warehouse_id"]) == (True, "w1")
    assert writes(twin) == 2
    assert problems(settings(warehouse="w1")) == [None, None]
    assert writes(twin) == 2


def test_a_smoke_test_attaches_none() -> None:
    workspace = settings().model_copy(update={"tracking": Tracking(uri="databricks", registry_uri="databricks-uc")})
    assert items(place.new(workspace).settings) == []


def test_a_monitor_that_is_there_gets_what_the_settings_say_and_keeps_the_rest(twin: Twin) -> None:
    bootstrap(items(settings()))
    twin.monitors["t-log"] |= {
        "slicing_exprs": ["review"],
        "assets_dir": "/Workspace/Users/a@example.com/log",
        "output_schema_id": "theirs",
    }
    twin.monitors["t-log"]["inference_log"] = PROFILE | {"granularities": ["AGGREGATION_GRANULARITY_1_HOUR"]}
    changed = settings(quality_schedule="0 0 7 ? * MON", quality_emails=("a@example.com",))
    [log, silver] = problems(changed)
    assert log is not None
    assert log.startswith("differs: inference_log.granularities: ['AGGREGATION_GRANULARITY_1_HOUR'] -> ['AGGREGATION_GRANULARITY_1_DAY']; ")
    assert silver is not None
    assert "schedule.quartz_cron_expression: '0 30 5 * * ?' -> '0 0 7 ? * MON'" in silver
    monitor = twin.monitors["t-log"]
    assert monitor["notification_settings"] == {"on_failure": {"email_addresses": ["a@example.com"]}}
    kept = {name: monitor[name] for name in ("slicing_exprs", "assets_dir", "output_schema_id")}
    assert kept == {"slicing_exprs": ["review"], "assets_dir": "/Workspace/Users/a@example.com/log", "output_schema_id": "theirs"}
    assert problems(changed) == [None, None]
    assert problems(settings(quality_schedule="0 0 7 ? * MON")) == [None, None], "addresses stay if the settings name none"


def test_a_monitor_with_another_profile_is_somebody_else_s(twin: Twin) -> None:
    theirs = {"time_series": {"timestamp_column": "answered", "granularities": ["AGGREGATION_GRANULARITY_1_DAY"]}}
    twin.monitors["t-log"] = dict(theirs)
    [log, silver] = bootstrap(items(settings()))
    assert str(log.unresolved).startswith(f"{LOG} has a monitor with the profile time_series, which bootstrap has not made")
    assert (silver.problem, silver.unresolved) == ("is missing", None)
    assert twin.monitors["t-log"] == theirs


def test_a_table_gets_its_monitor_when_a_run_has_made_it(twin: Twin) -> None:
    del twin.tables[LOG]
    [log, silver] = bootstrap(items(settings()))
    assert log.not_visible == "the table is not there yet: when a run has made it, run `.venv/bin/python -m deployments bootstrap` again"
    assert silver.problem == "is missing"
    twin.tables[LOG] = "t-log"
    assert problems(settings()) == ["is missing", None]


@pytest.mark.parametrize("fault", [503, "reset after"])
def test_a_lost_answer_attaches_nothing_twice(twin: Twin, fault: int | str) -> None:
    lost = twin.fault("POST", "/v1/monitors", fault)
    bootstrap(items(settings()))
    assert lost.seen == 1
    assert problems(settings()) == [None, None]


def test_a_monitor_that_failed_is_told_with_the_workspace_s_words(twin: Twin) -> None:
    bootstrap(items(settings()))
    twin.monitors["t-silver"] |= {"status": "DATA_PROFILING_STATUS_ERROR", "latest_monitor_failure_message": "no warehouse"}
    [_, silver] = bootstrap(items(settings()))
    assert silver.unresolved == f"the monitor of {SILVER} is DATA_PROFILING_STATUS_ERROR: no warehouse"


def test_who_may_not_read_the_table_is_told_what_it_takes(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", ADMIN_TOKEN)
    lines: list[str] = []
    assert not apply(items(settings()), dry_run=False, show=lines.append)
    assert f"writing the quality monitor of {LOG} was refused" in lines[0]
    assert "it needs MANAGE and SELECT on the table, which its owner has" in lines[0]
    assert twin.monitors == {}


def test_switched_off_doctor_says_what_is_left_and_what_removes_it(twin: Twin) -> None:
    off = settings(quality_monitors=False)
    assert (told(off).state, told(off).detail) == ("ok", "off")
    bootstrap(items(settings()))
    found = told(off)
    assert found.state == "warn"
    assert f"{LOG} still has a monitor: `databricks data-quality delete-monitor table t-log` removes it; " in found.detail
    assert f"its tables {LOG}_profile_metrics and {LOG}_drift_metrics" in found.detail
    for monitor in twin.monitors.values():
        monitor["assets_dir"] = "/Workspace/Users/a@example.com/theirs"
    assert told(off).detail == "off", "somebody else's monitor is their business"
    twin.fault("GET", "/v1/monitors", 403, times=100)
    assert (told(off).state, told(off).detail) == ("ok", f"off; the workspace does not tell whether {LOG} still has one")


def test_tables_in_folders_have_no_monitors() -> None:
    with pytest.raises(ValueError, match=r'databricks\.quality_monitors needs tables\.names = "catalog"'):
        Settings(databricks={"stages": "jobs", "quality_monitors": True})


CONFIG = {"output_schema_id": "id-of-insurance_uc.gold", "assets_dir": "/Workspace/Shared/x", "inference_log": PROFILE}
REFUSED: list[dict[str, Any]] = [
    {"snapshot": {}},
    {"inference_log": PROFILE | {"prediction_column": "answer"}},
    {"inference_log": PROFILE | {"granularities": ["1 day"]}},
    {"inference_log": PROFILE | {"timestamp_column": "sha256"}},
    {"inference_log": PROFILE | {"problem_type": "INFERENCE_PROBLEM_TYPE_REGRESSION"}},
    {"schedule": SCHEDULE | {"quartz_cron_expression": "30 5 * * *"}},
    {"schedule": SCHEDULE | {"quartz_cron_expression": "0 30 5 * * *"}},
    {"notification_settings": {"on_failure": {"email_addresses": [f"{number}@example.com" for number in range(6)]}}},
    {"assets_dir": "dashboards"},
]


def test_the_twin_refuses_what_the_api_refuses(twin: Twin) -> None:
    body = {"object_type": "table", "object_id": "t-log", "data_profiling_config": CONFIG}
    answers = [ask(twin, "POST", API, body | {"data_profiling_config": CONFIG | change}) for change in REFUSED]
    assert answers == [(400, "INVALID_PARAMETER_VALUE")] * len(REFUSED)
    assert ask(twin, "PATCH", f"{API}/table/t-log?update_mask=data_profiling_config.schedule", body) == (404, "NOT_FOUND")
    assert ask(twin, "POST", API, body) == (200, "")
    assert ask(twin, "POST", API, body) == (409, "ALREADY_EXISTS")
    for mask in ("schedule", "data_profiling_config.assets_dir", "data_profiling_config.snapshot"):
        assert ask(twin, "PATCH", f"{API}/table/t-log?update_mask={mask}", body) == (400, "INVALID_PARAMETER_VALUE")
