"""The routes of the review desk, over a real socket."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from car_damage.data.people.desk import Desk
from car_damage.data.people.waiting import Answer
from tests import corpus
from tests.fakes import sha256
from tests.server.conftest import Server, emptied

PHOTO = b"\xff\xd8\xff a photo"
ANSWER = Answer("minor", {"minor": 0.6, "moderate": 0.3, "major": 0.1}, ("minor", "moderate"), "model-3", "2026-06-01T12:00:00+00:00")


@pytest.fixture
def desk(server: Server) -> Iterator[Desk]:
    with emptied(server) as found:
        yield found


def review(server: Server, **fields: object) -> httpx.Response:
    response: httpx.Response = server.call("POST", "/reviews", json=fields)
    return response


def test_what_waits_is_listed_with_its_answer_and_its_photo(server: Server, desk: Desk) -> None:
    before = server.call("GET", "/reviews").json()
    assert before["waiting"] == []
    desk.keep(PHOTO, ANSWER)
    told = server.call("GET", "/reviews").json()
    assert (told["keeps"], told["classes"], told["dropped"]) == (True, ["minor", "moderate", "major"], before["dropped"])
    [waits] = told["waiting"]
    assert (waits["sha256"], waits["label"], waits["classes"], waits["history"]) == (sha256(PHOTO), "minor", ["minor", "moderate"], [])
    photo = server.call("GET", f"/reviews/{sha256(PHOTO)}/photo")
    assert (photo.content, photo.headers["content-type"]) == (PHOTO, "application/octet-stream")
    assert photo.headers["X-Content-Type-Options"] == "nosniff"


def test_a_photo_that_browsers_cannot_show_is_also_there_as_a_jpeg(server: Server, desk: Desk) -> None:
    for photo in (heic := corpus.heic(corpus.picture()), b"no photo"):
        assert desk.keep(photo, ANSWER)
    shown = server.call("GET", f"/reviews/{sha256(heic)}/picture")
    assert (shown.headers["content-type"], shown.headers["X-Content-Type-Options"]) == ("image/jpeg", "nosniff")
    assert Image.open(io.BytesIO(shown.content)).size == (320, 240)
    for name in (sha256(b"no photo"), "0" * 64):
        response = server.call("GET", f"/reviews/{name}/picture")
        assert (response.status_code, response.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_word_is_taken_with_its_photo_and_told_with_its_history(server: Server, desk: Desk) -> None:
    image = base64.b64encode(PHOTO).decode()
    told = review(server, label="severe", by="Ann", image=image, served_by="model-7", answered="minor").json()
    assert (told["sha256"], [(one["label"], one["by"], one["counts"]) for one in told["history"]]) == (
        sha256(PHOTO),
        [("major", "Ann", True)],
    )
    [word] = desk.said(sha256(PHOTO)).history
    assert (word.version, word.answered) == (7, "minor")
    assert Path(server.settings.answers.corrections, "photos", f"{sha256(PHOTO)}.jpg").read_bytes() == PHOTO
    after = review(server, label="undone", by="Ann", sha256=sha256(PHOTO)).json()
    assert [one["counts"] for one in after["history"]] == [False, False]


@pytest.mark.parametrize("form", ["data:image/jpeg;base64,{}", "{}\n"])
def test_a_photo_may_come_in_each_form_of_base64_that_the_endpoint_takes(server: Server, desk: Desk, form: str) -> None:
    image = form.format(base64.b64encode(PHOTO).decode().rstrip("="))
    assert review(server, label="major", by="Ann", image=image).json()["sha256"] == sha256(PHOTO)
    assert desk.said(sha256(PHOTO)).counts is not None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"label": "huge", "by": "Ann", "sha256": "0" * 64}, "neither a class"),
        ({"label": "major", "by": " ", "sha256": "0" * 64}, "by must be"),
        ({"label": "major", "by": "Ann"}, "is no SHA-256"),
        ({"label": "major", "by": "Ann", "sha256": "../../etc/passwd"}, "sha256"),
        ({"label": "major", "by": "Ann", "image": "%%%"}, "base64"),
        ({"label": "major", "by": "Ann", "sha256": "0" * 64, "more": 1}, "more"),
    ],
)
def test_a_word_that_cannot_be_used_is_refused_and_nothing_is_written(server: Server, desk: Desk, fields: dict[str, str], why: str) -> None:
    del desk
    response = review(server, **fields)
    assert (response.status_code, response.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert why in response.json()["message"]
    assert not Path(server.settings.answers.corrections).exists()


@pytest.mark.parametrize("path", ["/reviews", f"/reviews/{'0' * 64}/photo"])
def test_the_desk_needs_the_token(server: Server, path: str) -> None:
    assert httpx.get(server.url + path).status_code == 401
    assert httpx.post(server.url + "/reviews", json={}).status_code == 401


def test_a_photo_that_does_not_wait_is_not_there(server: Server) -> None:
    response = server.call("GET", f"/reviews/{'0' * 64}/photo")
    assert (response.status_code, response.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_path_is_no_photo(server: Server) -> None:
    assert server.call("GET", "/reviews/..%2F..%2Fendpoint%2Ftoken/photo").status_code in {400, 404, 422}


def test_a_body_without_an_end_is_refused(server: Server) -> None:
    response = review(server, label="major", by="Ann", image="A" * (2 << 20))
    assert (response.status_code, response.json()["error_code"]) == (413, "MAX_REQUEST_SIZE_EXCEEDED")
