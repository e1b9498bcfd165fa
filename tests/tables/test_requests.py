"""Requests on their way into the table of the request log: each is there once, whatever is killed when."""

import base64
import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from car_damage.adapters.folder import Folder
from car_damage.data.answers import inference_log
from car_damage.data.answers.inference_log import INFERENCE_LOG, Request
from car_damage.errors import Terminal
from car_damage.stage import silent
from car_damage.stages.monitoring import requests
from tests import engines
from tests.engines import DELTA_RS, SPARK
from tests.fakes import sha256
from tests.tables.conftest import Workshop

AT = datetime(2026, 1, 1, tzinfo=UTC)
LOG_TABLE, PAYLOAD = "insurance_uc.gold.inference_log", "insurance_uc.gold.asked_payload"
ROW = {"label": "minor", "probability": 1.0, "probability_minor": 1.0, "sha256": "ab", "width": 9, "height": 9, "brightness": 0.5}


class Killed(BaseException):
    """Ends a call as `kill -9` would, at the next effect on files."""


@pytest.fixture(params=[DELTA_RS, SPARK])
def shop(request, tmp_path, sessions):
    tables = None if request.param == DELTA_RS else lambda root: engines.tables(request.param, root, sessions)
    return Workshop(tmp_path, tables, serving={"host": "databricks", "inference_table": "insurance_uc.gold.asked"})


def request_of(name, *, at=AT, status=200, rows=(ROW,)):
    return Request(name, at, "ep", 3, status, 1.0, json.dumps({"predictions": list(rows)}))


def file(shop, name, *asked):
    shop.platform.files.write_once(f"{shop.platform.settings.monitoring.log_folder}{name}.parquet", inference_log.to_file(asked))


def files(shop):
    return [one.path for one in shop.platform.files.list(shop.platform.settings.monitoring.log_folder)]


def logged(shop):
    return shop.platform.tables.read(LOG_TABLE, INFERENCE_LOG.names)[0].sort_by("request_id").to_pylist()


def ids(shop):
    return [row["request_id"] for row in logged(shop)]


def test_the_rows_of_files_are_taken_up_once_whatever_is_killed_when(shop, monkeypatch):
    """One story, because each merge costs a Spark job."""
    assert requests.take_up(shop.platform, silent) == 0, "no request has come yet"
    file(shop, "1", request_of("a"), request_of("b", rows=(ROW, ROW | {"sharpness": 0.1})))
    file(shop, "2", request_of("c", status=429), request_of("a"))
    (shop.root / "home" / "requests" / "3.parquet").write_bytes(b"half a file")
    said = []

    def kill(*_):
        raise Killed

    with monkeypatch.context() as at_removal:
        at_removal.setattr(Folder, "remove", kill)
        with pytest.raises(Killed):
            requests.take_up(shop.platform, silent)
    assert len(files(shop)) == 3, "the rows are in the table, and the files are still there"
    file(shop, "4", request_of("d"))
    requests.take_up(shop.platform, lambda *told: said.append(told[1:3]))
    assert ids(shop) == ["a", "b/0", "b/1", "c", "d"]
    assert said[-1] == (4, 4)
    assert [path.rpartition("/")[2] for path in files(shop)] == ["3.parquet"], "what is no file of requests stays, and harms nothing"
    [*_, refused, last] = logged(shop)
    assert (refused["status"], refused["label"], last["label"], last["answered"]) == (429, None, "minor", AT)
    assert [row["sharpness"] for row in logged(shop)] == [None, None, 0.1, None, None]
    assert requests.take_up(shop.platform, silent) == 0


def logged_by_databricks(shop, *rows):
    """Rows of an inference table, in the types that a workspace gives them."""
    schema = pa.schema(
        [
            *(pa.field(name, pa.string()) for name in ("databricks_request_id", "client_request_id")),
            *(pa.field("request_date", pa.date32()), pa.field("request_time", pa.timestamp("us", "UTC"))),
            *(pa.field("status_code", pa.int32()), pa.field("sampling_fraction", pa.float64())),
            *(pa.field("execution_duration_ms", pa.int64()), pa.field("request", pa.string()), pa.field("response", pa.string())),
            *(pa.field("served_entity_id", pa.string()), pa.field("logging_error_codes", pa.list_(pa.string()))),
            pa.field("requester", pa.string()),
        ]
    )
    told = [
        {"request_date": date(2026, 1, 1), "sampling_fraction": 1.0, "execution_duration_ms": 40, "served_entity_id": "e"} | row
        for row in rows
    ]
    write_deltalake(shop.platform.tables.uri(PAYLOAD), pa.Table.from_pylist(told, schema), mode="append")


def asked(name, minute, status=200, **more):
    response = json.dumps({"predictions": [ROW]})
    at = AT + timedelta(minutes=minute)
    return {"databricks_request_id": name, "request_time": at, "status_code": status, "response": response} | more


def test_the_requests_of_an_inference_table_are_taken_up_once_and_late_ones_are_not_lost(shop, monkeypatch):
    monkeypatch.setattr(requests, "REQUESTS", 2)
    photo = base64.b64encode(b"tiny").decode()
    refused = {
        "request": json.dumps({"dataframe_records": [{"image": photo}]}),
        "response": json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "row 0: too small: 2x2"}),
    }
    shop.platform.clock.time = AT + timedelta(hours=3)
    assert requests.take_up(shop.platform, silent) == 0, "the table comes with the first request"
    entity = {"served_entity_id": ["e"], "entity_name": [shop.platform.settings.tracking.model], "entity_version": ["5"]}
    write_deltalake(shop.platform.tables.uri("system.serving.served_entities"), pa.table(entity))
    logged_by_databricks(shop, asked("a", 60), asked("b", 61, 400, **refused), asked("it's", 62, 400, **refused | {"request": None}))
    assert requests.take_up(shop.platform, silent) == 3
    [one, small, large] = logged(shop)
    assert (one["model_version"], one["label"], one["milliseconds"], one["endpoint"]) == (5, "minor", 40, "car_damage_model_ep")
    assert (small["sha256"], small["refused"], small["label"], small["status"]) == (sha256(b"tiny"), "too small: 2x2", None, 400)
    assert (large["sha256"], large["refused"]) == (None, "too small: 2x2")

    assert requests.take_up(shop.platform, silent) == 0
    logged_by_databricks(shop, asked("late", 1), asked("a", 60), asked("next", 90))
    assert requests.take_up(shop.platform, silent) == 2
    assert ids(shop) == ["a", "b", "it's", "late", "next"]
    shop.platform.clock.time += timedelta(days=90)
    assert requests.take_up(shop.platform, silent) == 5, "after a long silence all are looked at"
    assert len(ids(shop)) == 5


@pytest.mark.parametrize("shop", [DELTA_RS], indirect=True)
def test_without_the_right_to_see_served_entities_the_version_is_not_known(shop, caplog, monkeypatch):
    read = shop.platform.tables.read

    def refusing(table, *more, **named):
        if table.startswith("system."):
            raise Terminal("no USE CATALOG on system")
        return read(table, *more, **named)

    with monkeypatch.context() as without_right:
        without_right.setattr(shop.platform.tables, "read", refusing)
        logged_by_databricks(shop, asked("a", 1), asked("b", 2, served_entity_id=None), asked("c", 3))
        assert requests.take_up(shop.platform, silent) == 1
        assert "does not say which version answered" in caplog.text
        assert "2 requests wait until system.serving.served_entities has their version" in caplog.text
        assert ids(shop) == ["b"]
        shop.platform.clock.time += timedelta(days=1, minutes=2)
        assert requests.take_up(shop.platform, silent) == 1
    entity = {"served_entity_id": ["e"], "entity_name": [shop.platform.settings.tracking.model], "entity_version": ["5"]}
    write_deltalake(shop.platform.tables.uri("system.serving.served_entities"), pa.table(entity))
    assert requests.take_up(shop.platform, silent) == 1
    assert [(row["request_id"], row["model_version"]) for row in logged(shop)] == [("a", None), ("b", None), ("c", 5)]


@pytest.mark.parametrize("shop", [DELTA_RS], indirect=True)
def test_a_look_at_an_answer_is_read_once(shop, monkeypatch):
    read, columns_read = shop.platform.tables.read, []

    def noting(table, columns, *more, **named):
        columns_read.append(columns)
        return read(table, columns, *more, **named)

    monkeypatch.setattr(shop.platform.tables, "read", noting)
    look = json.dumps({"predictions": [ROW | {"map": [[0.0]]}]})
    logged_by_databricks(shop, asked("a", 1, served_entity_id=None), asked("look", 2, response=look, served_entity_id=None))
    for answers in (1, 0, 0):
        columns_read.clear()
        requests.take_up(shop.platform, silent)
        assert sum("response" in columns for columns in columns_read) == answers
    [_, marker] = logged(shop)
    assert {name for name, value in marker.items() if value is not None} == {"request_id", "answered", "endpoint"}


@pytest.mark.parametrize("shop", [DELTA_RS], indirect=True)
def test_after_a_request_of_today_the_ids_of_yesterday_are_enough(shop, monkeypatch):
    read, since = shop.platform.tables.read, []

    def noting(table, *more, where=None, **named):
        since.append((table, where and where.least))
        return read(table, *more, where=where, **named)

    logged_by_databricks(shop, asked("a", 1, served_entity_id=None))
    shop.platform.clock.time = AT + timedelta(days=1)
    requests.take_up(shop.platform, silent)
    monkeypatch.setattr(shop.platform.tables, "read", noting)
    requests.take_up(shop.platform, silent)
    assert since == [(LOG_TABLE, AT - requests.LATE), (PAYLOAD, AT + timedelta(minutes=1, milliseconds=40) - requests.LATE)]
