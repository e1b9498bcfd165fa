"""Requests as rows of the request log: answered, refused and failed ones, and what cannot be understood."""

import base64
import json
from datetime import UTC, datetime

import pytest

from car_damage.data.answers import inference_log, payload
from car_damage.data.answers.inference_log import INFERENCE_LOG, Request
from tests.fakes import sha256

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
ANSWER = {"label": "major", "probability": 0.9, "probability_minor": 0.1, "probability_major": 0.9, "sha256": "ab", "width": 640}
NOW = ANSWER | {"height": 480, "brightness": 0.4, "sharpness": 0.02, "warmth": 0.1, "classes": ["major"], "review": False}
UNANSWERED = ("width", "height", "brightness", "sharpness", "warmth", "label", "probability", "probabilities", "classes", "review")


def answers(*rows):
    return json.dumps({"predictions": rows})


def body(*images):
    return json.dumps({"dataframe_records": [{"image": image} for image in images]})


def encoded(data):
    return base64.b64encode(data).decode()


def refusal(message, code="INVALID_PARAMETER_VALUE"):
    return json.dumps({"error_code": code, "message": message})


def rows(status=200, response=None, asked=None):
    request = Request("id", AT, "ep", 7, status, 12.5, response, asked)
    table = inference_log.from_file(inference_log.to_file([request]))
    assert table.schema.equals(INFERENCE_LOG)
    return table.to_pylist()


def test_an_answered_photo_is_a_row_with_what_the_model_said():
    [row] = rows(200, answers(NOW))
    assert list(row) == INFERENCE_LOG.names
    assert row == {
        "request_id": "id",
        "answered": AT,
        "endpoint": "ep",
        "model_version": 7,
        "sha256": "ab",
        "width": 640,
        "height": 480,
        "brightness": 0.4,
        "sharpness": 0.02,
        "warmth": 0.1,
        "label": "major",
        "probability": 0.9,
        "classes": '["major"]',
        "review": False,
        "probabilities": '{"minor": 0.1, "major": 0.9}',
        "refused": None,
        "milliseconds": 12.5,
        "status": 200,
    }


def test_what_a_model_of_before_does_not_say_is_null():
    [row] = rows(200, answers(ANSWER))
    assert [row[name] for name in ("height", "brightness", "sharpness", "classes", "review")] == [None] * 5
    assert (row["label"], row["sha256"]) == ("major", "ab")


def test_each_photo_of_a_request_has_a_row_and_a_key_of_its_own():
    found = rows(200, answers(NOW, NOW, ANSWER))
    assert [row["request_id"] for row in found] == ["id/0", "id/1", "id/2"]
    assert inference_log.requests_of(
        inference_log.table([Request("id", AT, "ep", 7, 200, 1, answers(NOW, NOW))])["request_id"]
    ).to_pylist() == ["id"]


def test_a_look_at_where_the_damage_was_seen_is_no_traffic():
    assert rows(200, answers(NOW | {"map": [[0.5]]}, NOW | {"map": [[0.5]]})) == []
    assert len(rows(200, answers(NOW | {"map": None}))) == 1


@pytest.mark.parametrize(
    "message",
    ["row 1: too small: 9x9", "Encountered an error\nError: row 1: too small: 9x9\nInput: /9j/4AAQ"],
    ids=["the local server", "a workspace"],
)
def test_a_refused_photo_has_its_hash_and_its_reason_and_no_answer(message):
    data = encoded(b"small")
    asked = body(encoded(b"good"), f"data:image/jpeg;base64,{data}")
    found = rows(400, refusal(message), asked)
    assert [(row["sha256"], row["refused"]) for row in found] == [(sha256(b"good"), None), (sha256(b"small"), "too small: 9x9")]
    assert {row[name] for row in found for name in UNANSWERED} == {None}
    assert {row["status"] for row in found} == {400}


@pytest.mark.parametrize(
    ("response", "asked", "refused"),
    [
        (refusal("row 0: not an image: x"), "image\nAAAA", "not an image: x"),
        (refusal("row 5: not an image: x"), body("AAAA"), "not an image: x"),
        (refusal("a list of records is needed", "BAD_REQUEST"), "{}", "BAD_REQUEST"),
        (refusal("300 rows"), body(*["AAAA"] * 300), "INVALID_PARAMETER_VALUE"),
        ("<html>", None, None),
        (None, None, None),
    ],
)
def test_a_refusal_that_names_no_photo_of_the_request_is_one_row_and_quotes_nothing(response, asked, refused):
    [row] = rows(400, response, asked)
    assert (row["sha256"], row["refused"], row["status"]) == (None, refused, 400)


def test_an_image_that_is_not_base64_has_no_hash():
    assert [row["sha256"] for row in rows(400, refusal("row 0: image is not base64: x"), body("@@@", encoded(b"a")))] == [
        None,
        sha256(b"a"),
    ]


@pytest.mark.parametrize("status", [408, 413, 429, 499, 500, 503, 504])
def test_a_request_that_was_not_answered_is_a_row_without_photo(status):
    [row] = rows(status, answers(NOW))
    assert {name for name, value in row.items() if value is not None} == {
        "request_id",
        "answered",
        "endpoint",
        "model_version",
        "milliseconds",
        "status",
    }


@pytest.mark.parametrize("response", ["", "[]", "{}", '{"predictions": 3}', '{"predictions": [{"label": 1}, 7]}', "[" * 10_000, b"\xff"])
def test_an_answer_that_cannot_be_understood_is_a_row_without_photo(response):
    [row] = rows(200, response)
    assert (row["label"], row["status"]) == (None, 200)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no file of requests", inference_log.to_file([])[:-9]])
def test_what_is_no_file_of_requests_is_an_error(data):
    with pytest.raises(ValueError, match="no file of requests"):
        inference_log.from_file(data)


def test_of_two_rows_with_one_key_the_first_stays():
    table = inference_log.table([Request(name, AT, "ep", version, 429, 1, None) for name, version in (("a", 1), ("b", 2), ("a", 3))])
    assert [(row["request_id"], row["model_version"]) for row in inference_log.once(table, "request_id").to_pylist()] == [
        ("a", 1),
        ("b", 2),
    ]


def test_a_row_of_an_inference_table_is_a_request_and_its_entity_has_a_version():
    row = {"databricks_request_id": "r", "request_time": AT, "status_code": 200, "execution_duration_ms": 250, "response": answers(NOW)}
    entities = [
        {"served_entity_id": "e1", "entity_name": "a.b.model", "entity_version": "3"},
        {"served_entity_id": "e2", "entity_name": "a.b.other", "entity_version": "9"},
        {"served_entity_id": "e3", "entity_name": "a.b.model", "entity_version": None},
    ]
    versions = payload.versions(entities, "a.b.model")
    assert versions == {"e1": 3, "e2": None, "e3": None}
    found = payload.request(row | {"served_entity_id": "e1"}, "ep", versions)
    assert (found.request_id, found.model_version, found.status, found.milliseconds) == ("r", 3, 200, 250)
    assert (found.answered - AT).total_seconds() == 0.25
    unknown = payload.request(row | {"served_entity_id": "e2", "execution_duration_ms": None}, "ep", versions)
    assert (unknown.model_version, unknown.milliseconds, unknown.answered) == (None, None, AT)
