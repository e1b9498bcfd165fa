"""The request log beside the answers: what is written, and what is dropped rather than let an answer wait."""

import asyncio
import base64
import json
import threading

import pytest

from car_damage.adapters.clock import SystemClock
from car_damage.adapters.folder import Folder
from car_damage.data.answers.inference_log import from_file
from car_damage.data.people.desk import Desk
from car_damage.errors import Unavailable
from car_damage.server import request_log
from car_damage.server.api import app
from car_damage.server.hosting.measures import Outcome
from car_damage.server.keeping import Keeper
from car_damage.server.request_log import RequestLog
from car_damage.settings import Monitoring, Settings

ANSWER = json.dumps({"predictions": [{"label": "minor", "probability": 1.0}]}).encode()
DEADLINE = 30
NEVER = 3600
"""Seconds between two files with which only what a test does writes one."""


class HeldDisk(Folder):
    """A disk that takes no byte before it is let go."""

    def __init__(self):
        self.asked, self.let_go = threading.Event(), threading.Event()

    def write_once(self, path, data):
        self.asked.set()
        assert self.let_go.wait(DEADLINE)
        super().write_once(path, data)


@pytest.fixture
def settings(tmp_path):
    return Monitoring(log_folder=str(tmp_path / "requests"), log_seconds=NEVER, log_buffer=1 << 20)


def outcome(status=200, response=ANSWER, request=b""):
    return Outcome("model-3", status, seconds=0.25, response=response, request=request)


def logged(settings):
    return [row for file in sorted(Folder().list(settings.log_folder), key=lambda file: file.path) for row in rows(file.path)]


def rows(path):
    return from_file(Folder().read(path)).to_pylist()


def test_requests_are_collected_and_written_as_one_file(settings):
    log = RequestLog(Folder(), settings)
    for status in (200, 429, 200):
        log.put("ep", outcome(status))
    assert log.settle(DEADLINE)
    assert len(list(Folder().list(settings.log_folder))) == 1
    found = logged(settings)
    assert [(row["endpoint"], row["model_version"], row["status"], row["label"]) for row in found] == [
        ("ep", 3, 200, "minor"),
        ("ep", 3, 429, None),
        ("ep", 3, 200, "minor"),
    ]
    assert {row["milliseconds"] for row in found} == {250}
    assert len({row["request_id"] for row in found}) == 3
    assert log.dropped == 0


def test_a_file_is_written_when_the_seconds_are_over(settings, tmp_path):
    log = RequestLog(Folder(), settings.model_copy(update={"log_seconds": 0.01}))
    log.put("ep", outcome())
    folder, tried = tmp_path / "requests", threading.Event()
    for _ in range(DEADLINE * 100):
        if folder.is_dir() and list(folder.glob("*.parquet")):
            break
        tried.wait(0.01)
    assert len(logged(settings)) == 1


def test_a_full_buffer_drops_and_counts_and_never_waits(settings):
    disk = HeldDisk()
    log = RequestLog(disk, settings)
    large = outcome(400, b"", b"x" * (300 << 10))
    for _ in range(5):
        log.put("ep", large)
    assert log.dropped == 2
    assert disk.asked.wait(DEADLINE), "half of the buffer is used, so the thread does not wait for the seconds"
    log.put("ep", large)
    assert log.dropped == 3
    disk.let_go.set()
    assert log.settle(DEADLINE)
    log.put("ep", large)
    assert log.settle(DEADLINE)
    assert (log.dropped, len(logged(settings))) == (3, 4)


def test_without_room_for_a_thread_a_request_is_dropped_and_the_next_one_tries_again(settings, monkeypatch):
    log = RequestLog(Folder(), settings)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", refuse)
        log.put("ep", outcome())
    assert log.dropped == 1
    log.put("ep", outcome())
    assert log.settle(DEADLINE)
    assert (log.dropped, len(logged(settings))) == (1, 1)


def test_settling_writes_file_after_file_without_waiting_for_the_seconds(settings, monkeypatch):
    monkeypatch.setattr(request_log, "_AT_ONCE", 1)
    log = RequestLog(Folder(), settings)
    for _ in range(3):
        log.put("ep", outcome())
    assert log.settle(DEADLINE)
    assert (log.dropped, len(list(Folder().list(settings.log_folder)))) == (0, 3)


def test_what_is_not_written_in_time_counts_as_dropped(settings):
    disk = HeldDisk()
    log = RequestLog(disk, settings)
    for _ in range(3):
        log.put("ep", outcome())
    assert not log.settle(0.01)
    assert log.dropped == 3
    disk.let_go.set()
    assert log.settle(DEADLINE)


def test_a_server_that_stops_writes_its_log_and_the_photos_that_it_keeps_whatever_fails(settings, tmp_path, monkeypatch):
    """Its disk takes a byte only when the models' processes have been stopped."""
    disk, keepers = HeldDisk(), []

    class Endpoints:
        def restore(self):
            log.put("ep", outcome())
            body = json.dumps({"dataframe_records": [{"image": base64.b64encode(b"a photo").decode()}]}).encode()
            answer = {"label": "minor", "probability": 1.0, "probability_minor": 1.0, "review": True}
            keepers[0].offer(body, json.dumps({"predictions": [answer]}).encode(), "model-3")

        async def close(self):
            disk.let_go.set()
            raise OSError("a process does not end")

    def keeper(desk):
        keepers.append(Keeper(desk))
        return keepers[0]

    async def live():
        async with app.api(whole, Endpoints(), desk, log).router.lifespan_context(None):
            pass

    monkeypatch.setattr(app, "Keeper", keeper)
    log = RequestLog(disk, settings)
    whole = Settings(home=tmp_path, answers={"keep_for_review": str(tmp_path / "kept")})
    desk = Desk(disk, whole.answers, SystemClock())
    with pytest.raises(OSError, match="does not end"):
        asyncio.run(live())
    assert (len(logged(settings)), len(desk.waiting())) == (1, 1)


def test_a_full_disk_drops_and_counts_and_the_next_file_is_written(settings, monkeypatch):
    def full(*_):
        raise Unavailable("No space left on device")

    log = RequestLog(Folder(), settings)
    with monkeypatch.context() as disk:
        disk.setattr(Folder, "write_once", full)
        log.put("ep", outcome())
        log.put("ep", outcome())
        assert log.settle(DEADLINE)
    assert log.dropped == 2
    log.put("ep", outcome())
    assert log.settle(DEADLINE)
    assert (log.dropped, len(logged(settings))) == (2, 1)


def test_a_folder_that_cannot_be_written_drops_and_counts(settings, tmp_path):
    (tmp_path / "requests").write_text("a file, so that there can be no folder")
    log = RequestLog(Folder(), settings)
    log.put("ep", outcome())
    assert log.settle(DEADLINE)
    assert log.dropped == 1


def test_no_photo_is_in_any_file(settings, tmp_path):
    photo = b"\xff\xd8\xff a photo that nobody may find again" * 20
    image = base64.b64encode(photo)
    log = RequestLog(Folder(), settings)
    asked = b'{"dataframe_records": [{"image": "' + image + b'"}]}'
    log.put("ep", outcome(400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "row 0: not an image"}', asked))
    log.put("ep", outcome(200, ANSWER, asked))
    assert log.settle(DEADLINE)
    [file] = (tmp_path / "requests").iterdir()
    assert photo[:20] not in file.read_bytes()
    assert image[:20] not in file.read_bytes()
    assert [row["refused"] for row in logged(settings)] == ["not an image", None]
