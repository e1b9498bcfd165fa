"""The request log of a server, over real sockets: what is noted of each request. What a server that ends or is killed leaves of it is in
test_whole_life.py.
"""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from car_damage.photo.decoder import decode
from car_damage.photo.signals import Signals, signals
from tests.server.conftest import DEADLINE, Server, jpeg, until
from tests.server.test_metrics import scrape
from tests.server.test_queries import records

Rows = list[dict[str, Any]]


def noted(server: Server, before: Rows, number: int) -> Rows:
    """The rows that are there now and were not before, when there are so many."""
    known = {row["request_id"] for row in before}

    def rows() -> Rows | None:
        found = [row for row in server.logged() if row["request_id"] not in known]
        return found if len(found) >= number else None

    new: Rows = until(rows, f"{number} rows of the request log")
    return new


def test_each_photo_of_a_request_is_noted_with_what_was_answered(ready: Server, photo: bytes) -> None:
    before = ready.logged()
    other = jpeg(320, 240, 40)
    answered = ready.invoke(json=records(photo, other)).json()["predictions"]
    assert ready.invoke(json=records(photo) | {"params": {"explain": True}}).status_code == 200
    ready.invoke(json=records(photo))
    first, second, alone = noted(ready, before, 3)
    assert [row["request_id"].rpartition("/")[2] for row in (first, second)] == ["0", "1"]
    assert [row["sha256"] for row in (first, second, alone)] == [hashlib.sha256(data).hexdigest() for data in (photo, other, photo)]
    for row, answer in zip((first, second), answered, strict=True):
        columns = ("label", "probability", "review", "width", "height", *Signals._fields)
        assert {name: row[name] for name in columns} == {name: answer[name] for name in columns}
        assert (row["endpoint"], row["model_version"], row["status"], row["refused"]) == ("car_damage_model_ep", 1, 200, None)
        assert 0 < row["milliseconds"] < 1000 * DEADLINE
    assert [alone[name] for name in Signals._fields] == pytest.approx(signals(decode(photo).pixels))


def test_refused_photos_and_failed_requests_are_noted_without_an_answer(ready: Server, photo: bytes) -> None:
    before = ready.logged()
    ready.invoke(json=records(photo, b"no photo at all"))
    ready.invoke(content=bytes((1 << 20) + 1))
    good, bad, large = noted(ready, before, 3)
    assert [row["sha256"] for row in (good, bad)] == [hashlib.sha256(data).hexdigest() for data in (photo, b"no photo at all")]
    assert (good["refused"], bad["refused"].partition(":")[0]) == (None, "not an image")
    assert [row["status"] for row in (good, bad, large)] == [400, 400, 413]
    assert {row[name] for row in (good, bad, large) for name in ("label", "probability", "width", "sharpness", "review")} == {None}


def test_a_request_that_finds_the_queue_full_is_noted(ready: Server, photo: bytes) -> None:
    before = ready.logged()
    with ready.full_queue():
        assert ready.invoke(json=records(photo)).status_code == 429
    until(lambda: ready.invoke(json=records(photo)).status_code == 200, "an answer once the places are free")
    full = [row for row in noted(ready, before, 2) if row["status"] == 429]
    assert {(row["sha256"], row["label"], row["refused"]) for row in full} == {(None, None, None)}


def test_what_is_dropped_is_counted_for_the_log_and_for_the_desk(ready: Server, photo: bytes) -> None:
    folder = Path(ready.settings.monitoring.log_folder)
    noted(ready, [], 1)

    def dropped() -> float:
        assert scrape(ready, by="review_desk")["car_damage_dropped_total"] >= 0
        return scrape(ready, by="request_log")["car_damage_dropped_total"]

    earlier, away = dropped(), folder.rename(folder.with_name("away"))
    folder.write_text("a file, so that nothing can be written")
    try:
        assert ready.invoke(json=records(photo)).status_code == 200
        until(lambda: dropped() > earlier, "a dropped request")
    finally:
        folder.unlink()
        away.rename(folder)
    before = ready.logged()
    ready.invoke(json=records(photo))
    noted(ready, before, 1)
