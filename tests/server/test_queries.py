"""Valid and invalid requests to an endpoint over a real socket."""

import base64
import hashlib
import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from car_damage.errors import RequestRefused
from car_damage.machine import LONGEST_LOG
from car_damage.model.answering import needs_a_person
from car_damage.model.places import GRID
from car_damage.server.address import folder, token
from car_damage.server.hosting.model_server import AT_ONCE
from tests import corpus, phones
from tests.server.conftest import ANSWERING, CLASSES, Models, Server, jpeg, own_answer, until

PHOTO = base64.b64encode(bytes(range(256)) * 20).decode()
INVOCATIONS = "/serving-endpoints/car_damage_model_ep/invocations"

BROKEN = corpus.broken()


def records(*photos: bytes) -> dict[str, Any]:
    return {"dataframe_records": [{"image": base64.b64encode(photo).decode()} for photo in photos]}


def test_the_endpoint_answers_what_keras_answers_on_the_same_bytes(ready: Server, models: Models) -> None:
    photos = [jpeg(320, 240, turn) for turn in (0, 40, 80)]
    answers = ready.serving.query(photos)
    for photo, answer in zip(photos, answers, strict=True):
        own = own_answer(models.keras_files[1], photo)
        assert list(answer.probabilities) == list(CLASSES)
        assert list(answer.probabilities.values()) == pytest.approx(own, abs=1e-4)
        assert answer.label == CLASSES[own.index(max(own))]
        assert answer.probability == pytest.approx(max(own), abs=1e-4)
        assert answer.served_by == "car_damage_classifier-1"
        assert answer.latency > 0


def test_an_answer_has_the_classes_that_it_cannot_exclude_and_a_request_may_ask_for_another_coverage(ready: Server) -> None:
    photos = [jpeg(320, 240, turn) for turn in (0, 40, 80)]
    for coverage in (None, 0.25, 0.5, 0.99):
        asked = records(*photos) | ({} if coverage is None else {"params": {"coverage": coverage}})
        rows = ready.invoke(json=asked).json()["predictions"]
        probabilities = np.array([[row[f"probability_{name}"] for name in CLASSES] for row in rows])
        sets = ANSWERING.sets(probabilities, coverage)
        assert [row["classes"] for row in rows] == [[name for name, there in zip(CLASSES, of, strict=True) if there] for of in sets]
        assert [row["review"] for row in rows] == needs_a_person(sets, probabilities).tolist()
    (one,) = ready.serving.query(photos[:1])
    assert one.classes == tuple(ready.invoke(json=records(*photos)).json()["predictions"][0]["classes"])
    assert one.review is not None


@pytest.mark.parametrize(("coverage", "says"), [(0, "above 0 and below 1"), (1.5, "above 0 and below 1"), ("much", "coverage")])
def test_a_coverage_that_is_none_is_refused(ready: Server, photo: bytes, coverage: Any, says: str) -> None:
    response = ready.invoke(json=records(photo) | {"params": {"coverage": coverage}})
    assert (response.status_code, response.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert says in response.json()["message"]


def test_a_request_may_ask_where_the_damage_was_seen(ready: Server, photo: bytes) -> None:
    (row,) = ready.invoke(json=records(photo) | {"params": {"explain": True}}).json()["predictions"]
    (plain,) = ready.invoke(json=records(photo)).json()["predictions"]
    assert {name: value for name, value in row.items() if name != "map"} == plain
    seen = np.array(row["map"])
    assert (seen.shape, seen.min(), seen.max()) == ((GRID, GRID), 0, 1)
    (answer,) = ready.serving.query([photo], explain=True)
    assert np.array(answer.map).tolist() == seen.tolist()
    assert ready.serving.query([photo])[0].map is None


def test_a_request_that_asks_for_too_many_maps_is_refused(ready: Server, photo: bytes) -> None:
    response = ready.invoke(json=records(*[photo] * 9) | {"params": {"explain": True}})
    assert (response.status_code, response.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "a request with explain holds 1 to 8 photos" in response.json()["message"]


def test_an_answer_carries_what_monitoring_needs(ready: Server, photo: bytes) -> None:
    from car_damage.photo.decoder import decode
    from car_damage.photo.signals import Signals, signals

    row = ready.invoke(json=records(photo)).json()["predictions"][0]
    assert row["sha256"] == hashlib.sha256(photo).hexdigest()
    assert (row["width"], row["height"]) == (320, 240)
    assert [row[name] for name in Signals._fields] == pytest.approx(signals(decode(photo).pixels))


def test_mlflow_s_own_scoring_gives_the_same_columns_and_the_signature_names_them(ready: Server, models: Models, photo: bytes) -> None:
    from mlflow.models import Model

    image = base64.b64encode(photo).decode()
    (row,) = ready.invoke(json=records(photo)).json()["predictions"]
    (by_mlflow,) = ready.invoke(json={"dataframe_split": {"columns": ["image"], "data": [[image]]}}).json()["predictions"]
    assert row == by_mlflow
    signature = Model.load(str(models.folders[1])).signature
    assert signature is not None
    assert [*row, "map"] == signature.outputs.input_names()


def test_more_photos_than_one_tensorflow_call_takes_come_back_in_their_order(ready: Server) -> None:
    photos = [jpeg(64, 48, turn) for turn in range(70)]
    rows = ready.invoke(json=records(*photos)).json()["predictions"]
    assert [row["sha256"] for row in rows] == [hashlib.sha256(photo).hexdigest() for photo in photos]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{not json", "valid JSON"),
        (b"[]", "JSON dictionary"),
        (b"\xff\xfe", "valid JSON"),
        (b'{"dataframe_records": [{"picture": "AAAA"}]}', "image"),
        (b'{"dataframe_split": {"columns": ["image"], "data": []}}', "0 rows"),
        (b'{"dataframe_records": [{"image": "@@@@"}]}', "row 0: image is not base64"),
        (b'{"dataframe_records": [{"image": "AAAAA"}]}', "row 0: image is not base64"),
        (b'{"dataframe_records": [{"image": "data:image/jpeg,AAAA"}]}', "row 0: image is not base64"),
        (b'{"dataframe_records": [{"image": "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"}]}', "row 0: image is not base64"),
        (b'{"dataframe_records": [{"image": null}]}', "row 0"),
        (b'{"dataframe_records": [{"image": 7}]}', "image"),
        (b'{"dataframe_records": [{"image": ""}]}', "row 0: empty"),
        (b'{"dataframe_records": "x"}', "list of records"),
        (b'{"dataframe_split": {"columns": ["image"]}}', ""),
        (b'{"inputs": 3}', ""),
        (b"{}", "exactly one"),
    ],
)
def test_a_request_that_is_wrong_is_refused_with_its_reason_and_no_trace(ready: Server, body: bytes, says: str) -> None:
    response = ready.invoke(content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert set(response.json()) == {"error_code", "message"}
    assert response.json()["error_code"] in {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST"}
    assert says in response.json()["message"]
    assert "Traceback" not in response.text
    assert 'File "' not in response.text
    assert "\n" not in response.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"dataframe_records": [{"picture": PHOTO}]}, id="wrong column"),
        pytest.param({"dataframe_records": PHOTO}, id="a bare string"),
        pytest.param({"inputs": {"picture": [PHOTO]}}, id="wrong name in inputs"),
        pytest.param({"inputs": PHOTO}, id="a bare string in inputs"),
        pytest.param({"dataframe_split": {"columns": ["picture"], "data": [[PHOTO]]}}, id="wrong column in a table"),
        pytest.param({"image": PHOTO}, id="none of the forms"),
        pytest.param(PHOTO, id="no object"),
    ],
)
def test_a_refusal_is_one_line_and_repeats_no_photo(ready: Server, body: Any) -> None:
    response = ready.invoke(json=body)
    assert response.status_code == 400
    message = response.json()["message"]
    assert PHOTO[:20] not in message
    assert len(message) < 300
    assert "\n" not in message


def test_a_photo_is_taken_in_every_form_of_base64(ready: Server, photo: bytes) -> None:
    plain = base64.b64encode(photo).decode()
    forms = [
        plain,
        plain + "\n",
        base64.encodebytes(photo).decode(),
        base64.urlsafe_b64encode(photo).decode().rstrip("="),
        f"data:image/jpeg;base64,{plain}",
    ]
    rows = ready.invoke(json={"dataframe_records": [{"image": form} for form in forms]}).json()["predictions"]
    assert [row["sha256"] for row in rows] == [hashlib.sha256(photo).hexdigest()] * len(forms)


def test_one_row_that_is_no_photo_refuses_the_whole_request_and_is_named(ready: Server, photo: bytes) -> None:
    response = ready.invoke(json=records(photo, photo, b"no photo at all"))
    assert response.status_code == 400
    assert response.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "row 2: not an image" in response.json()["message"]


def test_validate_and_the_endpoint_give_one_verdict_on_photos_of_phones_and_on_mutated_ones(ready: Server) -> None:
    from car_damage.photo import decoder

    photos = phones.photos()
    for name, data in [*photos.items(), *corpus.fuzzed(100, 17, photos)]:
        found, response = decoder.inspect(data), ready.invoke(json=records(data))
        said = "" if response.status_code == 200 else response.json()["message"]
        assert said == ("" if found.valid else f"row 0: {found.reason}: {found.detail}"), name


@pytest.mark.parametrize("name", [name for name in BROKEN if name.endswith("bomb")])
def test_a_photo_that_would_take_too_much_memory_is_refused_before_it_is_decoded(ready: Server, name: str) -> None:
    response = ready.invoke(json=records(BROKEN[name][0]))
    assert response.status_code == 400
    assert response.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "row 0: too many pixels" in response.json()["message"]


def test_of_many_requests_at_once_each_gets_its_own_answer_and_only_the_one_without_a_photo_is_refused(
    ready: Server, models: Models
) -> None:
    photos = [jpeg(320, 240, 10 * turn) for turn in range(AT_ONCE)]
    asked = [*photos, b"no photo at all"]
    with ThreadPoolExecutor(len(asked)) as clients:
        responses = list(clients.map(lambda photo: ready.invoke(json=records(photo)), asked))
    assert [response.status_code for response in responses] == [200] * len(photos) + [400]
    assert "row 0: not an image" in responses[-1].json()["message"]
    answers = [response.json()["predictions"] for response in responses[:-1]]
    assert [[row["sha256"] for row in answer] for answer in answers] == [[hashlib.sha256(photo).hexdigest()] for photo in photos]
    for photo, (row,) in list(zip(photos, answers, strict=True))[:: AT_ONCE // 4]:
        assert [row[f"probability_{name}"] for name in CLASSES] == pytest.approx(own_answer(models.keras_files[1], photo), abs=1e-4)


def test_the_setting_says_how_long_a_model_may_take_for_a_request(ready: Server) -> None:
    (process,) = ready.model_processes()
    assert process.environ()["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] == f"{ready.settings.serving.request_timeout:g}"


def test_257_rows_are_too_many(ready: Server) -> None:
    tiny = jpeg(64, 48)
    response = ready.invoke(json=records(*[tiny] * 257))
    assert response.status_code == 400
    assert "257 rows" in response.json()["message"]


@pytest.mark.parametrize("size", [(1 << 20) + 1, 5 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_above_the_limit_is_refused_with_413(ready: Server, size: int, chunked: bool) -> None:
    part = b" " * (1 << 16)
    content: Any = (part for _ in range(size // len(part) + 1)) if chunked else b" " * size
    response = ready.invoke(content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert str(1 << 20) in response.json()["message"]


def test_a_request_may_have_16_mib_by_default_and_not_one_byte_more(sleepy: Server) -> None:
    assert sleepy.settled().ready
    body = b'{"dataframe_records": [{"image": ""}]}'.ljust(16 << 20)
    taken = sleepy.invoke(content=body, headers={"Content-Type": "application/json"})
    refused = sleepy.invoke(content=body + b" ", headers={"Content-Type": "application/json"})
    assert taken.status_code == 400
    assert "row 0: empty" in taken.json()["message"]
    assert (refused.status_code, refused.json()["error_code"]) == (413, "MAX_REQUEST_SIZE_EXCEEDED")
    assert f"{16 << 20} bytes" in refused.json()["message"]


def test_photos_too_large_for_one_request_are_refused_before_they_are_sent(ready: Server) -> None:
    with pytest.raises(RequestRefused, match="send fewer or smaller"):
        ready.serving.query([bytes(1 << 20)])


def test_a_request_that_finds_the_queue_full_is_refused_with_429_and_told_when_to_come_again(ready: Server, photo: bytes) -> None:
    with ready.full_queue():
        response = ready.invoke(json=records(photo))
        assert (response.status_code, response.json()["error_code"]) == (429, "RESOURCE_EXHAUSTED")
        assert response.headers["Retry-After"] == "1"
        assert "8 requests wait" in response.json()["message"]
    until(lambda: ready.invoke(json=records(photo)).status_code == 200, "an answer once the places are free")


def test_a_models_log_holds_what_it_said_since_it_was_ready_and_its_build_log_the_rest(ready: Server) -> None:
    served = f"/api/2.0/serving-endpoints/{ready.settings.serving.endpoint}/served-models/car_damage_classifier-1"
    # For a request without the column, MLflow writes a warning about `instances` to the log.
    ready.invoke(content=b'{"dataframe_records": [{"photo": "x"}]}', headers={"Content-Type": "application/json"})
    log = until(lambda: ready.call("GET", served + "/logs").json()["logs"], "a line in the log")
    build = ready.call("GET", served + "/build-logs").json()["logs"]
    assert "instances" in log
    assert "instances" not in build
    assert re.search(r"^its example: (minor|moderate|major) [01]\.\d+$", build, re.MULTILINE), "and not the hash of the photo"
    assert build.count("its example") == 1
    assert build not in log
    assert ready.call("GET", served.replace("-1", "-9") + "/logs").json()["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_a_models_log_has_a_length_and_its_build_log_stays(ready: Server) -> None:
    served = f"/api/2.0/serving-endpoints/{ready.settings.serving.endpoint}/served-models/car_damage_classifier-1"
    build = ready.call("GET", served + "/build-logs").json()["logs"]
    log = max((folder(ready.settings.home) / "logs").glob("*.log"), key=lambda log: log.stat().st_mtime)
    with log.open("ab", buffering=0) as model:  # as the process has it
        model.write(b"a line that a model prints\n" * 400_000)
        until(lambda: log.stat().st_size < 1 << 20, "an end of the long log")
        model.write(b"the line after it\n")
    assert log.with_suffix(".log.1").stat().st_size == LONGEST_LOG
    assert ready.call("GET", served + "/logs").json()["logs"].endswith("the line after it\n")
    assert ready.call("GET", served + "/build-logs").json()["logs"] == build


def test_a_request_without_content_type_and_one_with_a_foreign_one_are_refused(ready: Server) -> None:
    assert ready.invoke(content=b"{}").status_code == 400
    assert ready.invoke(content=b"x", headers={"Content-Type": "image/jpeg"}).status_code == 415


@pytest.mark.parametrize("path", ["/api/2.0/serving-endpoints", INVOCATIONS, "/nothing"])
def test_nothing_is_answered_without_the_token(ready: Server, path: str) -> None:
    import httpx

    missing = httpx.request("POST", ready.url + path)
    assert (missing.status_code, missing.json()["error_code"]) == (401, "UNAUTHENTICATED")
    wrong = ready.call("POST", path, bearer="guess")
    assert (wrong.status_code, wrong.json()["error_code"]) == (403, "PERMISSION_DENIED")


def test_everybody_may_know_that_the_server_lives_and_which_endpoints_are_ready_and_nothing_else(ready: Server) -> None:
    import httpx

    health = httpx.get(ready.url + "/health")
    assert (health.status_code, health.json()) == (200, {"status": "ok", "endpoints": {"car_damage_model_ep": "READY"}})


def test_the_token_is_readable_by_its_owner_only(ready: Server) -> None:
    home = ready.settings.home
    assert stat.S_IMODE((folder(home) / "token").stat().st_mode) == 0o600
    assert len(token(home)) >= 40


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"dataframe_records":' + "[" * 100_000 + "]" * 100_000 + "}", id="nested"),
        pytest.param('{"dataframe_records":[{"image":' + "9" * 5_000 + "}]}", id="a number of 5,000 digits"),
    ],
)
def test_a_body_that_no_parser_takes_is_refused_without_a_trace_in_the_log(ready: Server, body: str) -> None:
    logs = folder(ready.settings.home) / "logs"
    before = {log.name: log.stat().st_size for log in logs.iterdir()}
    answer = ready.call("POST", INVOCATIONS, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert len(answer.json()["message"]) < 200
    assert {log.name: log.stat().st_size for log in logs.iterdir()} == before
    managed = ready.call("POST", "/api/2.0/serving-endpoints", content=body)
    assert (managed.status_code, managed.json()["error_code"]) == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"dataframe_records": [{f"column {number}": "x"} for number in range(5_000)]}, id="records"),
        pytest.param({"dataframe_split": {"columns": [str(number) for number in range(5_000)], "data": [[]] * 5_000}}, id="split"),
        pytest.param({"inputs": {f"column {number}": ["x"] for number in range(5_000)}}, id="inputs"),
        pytest.param({"inputs": [{f"column {number}": "x"} for number in range(100)]}, id="inputs of records"),
        pytest.param({"dataframe_split": {"data": [["x"] * 5_000, []]}}, id="split without columns"),
        pytest.param({"dataframe_split": {"columns": None, "data": [["x"] * 5_000, []]}}, id="split with null columns"),
        pytest.param('{"dataframe_records": [{"image": NaN}, ' + ",".join(f'{{"{n}": 1}}' for n in range(100)) + "]}", id="with NaN"),
        pytest.param("image" + ",x" * 5_000 + "\n1" * 500, id="CSV"),
        pytest.param("image\n" + "1," * 5_000, id="CSV with a long line"),
        pytest.param({"dataframe_records": [{"image": ""}] * 5_000}, id="rows"),
        pytest.param({"dataframe_split": {"columns": ["image"], "index": [1] * 5_000, "data": []}}, id="index"),
        pytest.param("image\n" + "1\n" * 5_000, id="rows of CSV"),
    ],
)
def test_a_table_of_thousands_is_refused_before_it_is_made(ready: Server, body: Any) -> None:
    kind = "text/csv" if str(body).startswith("image") else "application/json"
    content = body if isinstance(body, str) else json.dumps(body)
    answer = ready.call("POST", INVOCATIONS, content=content, headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert re.fullmatch(r"the request has more than (16 columns|1,000 rows), and the model takes image", answer.json()["message"])


def test_a_body_that_is_a_table_in_a_table_a_thousand_times_hinders_no_other_request(ready: Server, photo: bytes) -> None:
    deep = '{"dataframe_split": ' + '{"columns": [], "data": ' * 1_000 + "[]" + "}" * 1_001
    with ThreadPoolExecutor(8) as clients:
        bad = clients.submit(lambda: ready.call("POST", INVOCATIONS, content=deep, headers={"Content-Type": "application/json"}))
        good = list(clients.map(lambda _: ready.invoke(json=records(photo)), range(7)))
    assert bad.result().status_code == 400
    assert [answer.status_code for answer in good] == [200] * 7


@pytest.mark.parametrize("kind", ["application/vnd.apache.parquet", "application/x-parquet"])
def test_a_compressed_table_is_not_opened(ready: Server, kind: str) -> None:
    answer = ready.call("POST", INVOCATIONS, content=b"PAR1", headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["message"]) == (415, "send application/json or text/csv")


def test_a_caller_cannot_ask_for_a_probe_in_place_of_an_answer(ready: Server) -> None:
    for kind in ("ping", ""):
        assert ready.call("POST", INVOCATIONS, content=b"x", headers={"Content-Type": kind}).status_code >= 400


def test_an_unknown_endpoint_and_an_unknown_api_are_named(ready: Server) -> None:
    unknown = ready.call("POST", "/serving-endpoints/nobody/invocations", json=records())
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert ready.call("GET", "/api/2.0/clusters/list").json()["error_code"] == "ENDPOINT_NOT_FOUND"


def test_a_listing_names_the_endpoint_and_its_version(ready: Server) -> None:
    from databricks.sdk import WorkspaceClient

    client = WorkspaceClient(host=ready.url, token=token(ready.settings.home), auth_type="pat")
    (listed,) = client.serving_endpoints.list()
    assert listed.name == "car_damage_model_ep"
    assert listed.config.served_entities[0].entity_version == "1"


ENTITY = {"entity_name": "m", "entity_version": "1", "workload_size": "Small", "scale_to_zero_enabled": True}


@pytest.mark.parametrize(
    ("call", "body", "code", "says"),
    [
        (("POST", ""), "{", "MALFORMED_REQUEST", "not JSON"),
        (("POST", ""), {"name": "a b", "config": {"served_entities": [ENTITY]}}, "INVALID_PARAMETER_VALUE", "name"),
        (("POST", ""), {"name": "x"}, "INVALID_PARAMETER_VALUE", "config: Field required"),
        (("POST", ""), {"name": "car_damage_model_ep", "config": {"served_entities": [ENTITY]}}, "RESOURCE_ALREADY_EXISTS", "exists"),
        (("PUT", "/car_damage_model_ep/config"), {"served_entities": []}, "INVALID_PARAMETER_VALUE", "served_entities"),
        (("PUT", "/car_damage_model_ep/config"), {"served_entities": [ENTITY | {"gpu": 1}]}, "INVALID_PARAMETER_VALUE", "gpu"),
        (
            ("PUT", "/car_damage_model_ep/config"),
            {"served_entities": [ENTITY | {"entity_name": "a.b.m\r\nX-Evil: 1"}]},
            "INVALID_PARAMETER_VALUE",
            "entity_name",
        ),
        (
            ("PUT", "/car_damage_model_ep/config"),
            {"served_entities": [ENTITY | {"entity_version": 1}]},
            "INVALID_PARAMETER_VALUE",
            "entity_version",
        ),
        (
            ("PUT", "/car_damage_model_ep/config"),
            {"served_entities": [{**ENTITY, "workload_size": "Tiny"}]},
            "INVALID_PARAMETER_VALUE",
            "workload_size",
        ),
        (
            ("PUT", "/car_damage_model_ep/config"),
            {"served_entities": [ENTITY], "traffic_config": {"routes": [{"served_model_name": "m-1", "traffic_percentage": 50}]}},
            "INVALID_PARAMETER_VALUE",
            "100 percent",
        ),
        (("PUT", "/nobody/config"), {"served_entities": [ENTITY]}, "RESOURCE_DOES_NOT_EXIST", "nobody"),
    ],
)
def test_a_config_that_databricks_would_refuse_is_refused(ready: Server, call: tuple[str, str], body: Any, code: str, says: str) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    method, path = call
    response = ready.call(method, "/api/2.0/serving-endpoints" + path, content=content)
    assert response.json()["error_code"] == code
    assert says in response.json()["message"]
    assert response.status_code == (404 if code == "RESOURCE_DOES_NOT_EXIST" else 400)
