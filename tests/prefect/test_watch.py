"""`make watch` on a real folder and a real Prefect server."""

import threading
import time
from contextvars import copy_context
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from car_damage.data.doorbell import fingerprint
from car_damage.platform import Target
from car_damage.settings import Doorbell, Landing, Settings
from deployments.processes import free_port
from deployments.watch import _check, watch
from tasks import doorbell
from tests.prefect.service import until

pytestmark = pytest.mark.usefixtures("server")


def test_a_file_that_takes_long_to_be_written_is_announced_when_it_is_whole(tmp_path: Path) -> None:
    settings = Settings(landing=Landing(folder=str(tmp_path)), doorbell=Doorbell(quiet=4))
    (tmp_path / "minor").mkdir()
    at_first = {doorbell.memory().rung, fingerprint(Target(settings))}
    stop = threading.Event()
    watching = threading.Thread(target=copy_context().run, args=(watch, settings, stop))
    watching.start()
    try:
        with (tmp_path / "minor" / "large.jpg").open("wb", buffering=0) as file:
            for _ in range(16):
                file.write(bytes(1000))
                time.sleep(0.4)  # as over a slow network
                assert doorbell.memory().rung in at_first
        until(lambda: doorbell.memory().rung == fingerprint(Target(settings)), "the whole file is announced")
    finally:
        stop.set()
        watching.join(60)
    assert not watching.is_alive()


def test_a_prefect_server_that_does_not_answer_is_told_with_its_part_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(landing=Landing(folder=str(tmp_path)), doorbell=Doorbell(quiet=0.1))
    nobody = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(updates=nobody):
        said = _check(Target(settings), "")
    assert said.startswith("could not ask the Prefect server, will try again: ")
    assert said in capsys.readouterr().out
