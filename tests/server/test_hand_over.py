"""The endpoint stage against the real endpoint server: a version that must not go live does not.

After each kind of failure the champion still serves and keeps its alias, the challenger alias is gone, and the error contains the
endpoint's log. Registry and history are fakes; the models are puppets that fail as configured.
"""

import base64
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from car_damage.adapters.clock import SystemClock
from car_damage.errors import UpdateFailed
from car_damage.model.pixels.photos import Photos as Decoded
from car_damage.model.run_files import PREDICTIONS_FILE, SMOKE_PHOTO_FILE, write_predictions
from car_damage.pipeline import EndpointReport, EndpointRequest
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.endpoint import work
from tests.fakes import Endpoint, Photos, Runs, Versions, World, sha256
from tests.server.conftest import CLASSES, Server, until

PUPPET = Path(__file__).with_name("puppet.py")
CHAMPION, BETTER, RAISES, LIES, HANGS, GONE = 1, 2, 3, 4, 5, 6
OLD, NEW = {"minor": 0.6, "moderate": 0.3, "major": 0.1}, {"minor": 0.1, "moderate": 0.2, "major": 0.7}
MEMORY = 768 << 20
"""Bytes that a model's process may take. A puppet takes less than half of it."""
PATIENCE = 120.0
"""Seconds that the server waits for a start, and the stage for an update. A puppet takes four, and over thirty on a busy machine."""


class Ahead(SystemClock):
    """The system clock; once a condition holds, each sleep moves it ahead by half of PATIENCE."""

    def __init__(self, condition: Callable[[], bool]) -> None:
        self._condition, self._ahead = condition, 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._ahead += PATIENCE / 2 if self._condition() else 0.0


@pytest.fixture(scope="module")
def puppets(tmp_path_factory: pytest.TempPathFactory, photo: bytes) -> str:
    """The URI of a registry with all six versions."""
    import mlflow
    import pandas as pd
    import yaml

    folder = tmp_path_factory.mktemp("puppets")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model(Settings().tracking.model)
    mlflow.pyfunc.save_model(
        str(folder / "puppet"),
        python_model=str(PUPPET),
        model_config={"probabilities": OLD, "start": "answer"},
        input_example=pd.DataFrame({"image": [base64.b64encode(photo).decode()]}),
        pip_requirements=[f"mlflow=={mlflow.__version__}"],
    )
    told: dict[int, dict[str, Any]] = {
        CHAMPION: {"probabilities": OLD},
        BETTER: {"probabilities": NEW},
        RAISES: {"start": "raise"},
        LIES: {"probabilities": {"minor": 0.3, "moderate": 0.3, "major": 0.4}},
        HANGS: {"start": "hang"},
        GONE: {},
    }
    for version, config in told.items():
        copy = folder / str(version)
        shutil.copytree(folder / "puppet", copy)
        described = yaml.safe_load((copy / "MLmodel").read_text())
        described["flavors"]["python_function"]["config"] |= config
        (copy / "MLmodel").write_text(yaml.safe_dump(described))
        client.create_model_version(Settings().tracking.model, copy.as_uri())
    shutil.rmtree(folder / str(GONE))
    return uri


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, puppets: str) -> Iterator[Server]:
    """A separate server."""
    running = Server(tmp_path_factory.mktemp("night"), puppets, update_timeout=PATIENCE, poll=0.2, max_memory_bytes=MEMORY).start()
    running.serving.put(CHAMPION)
    assert running.settled().served == CHAMPION
    yield running
    running.end()


@pytest.fixture
def here(night: Server, photo: bytes) -> World:
    """Version 1 is champion and served. After training, the champion predicted OLD and every other version NEW."""
    assert until(lambda: night.settled().ready and night.settled(), "the champion").served == CHAMPION
    registry = Versions()
    decoded = Decoded(np.zeros((1, 224, 224, 3), np.uint8), np.array([2]), (sha256(photo),), ("/landing/major/1.jpg",))
    files: dict[tuple[str, str], bytes] = {}
    for version in range(CHAMPION, GONE + 1):
        registry.add(version, decision="promote", judged_against="1")
        after_training = np.array([list((OLD if version == CHAMPION else NEW).values())])
        files[f"run-{version}", PREDICTIONS_FILE] = write_predictions(decoded, after_training, CLASSES)
        files[f"run-{version}", SMOKE_PHOTO_FILE] = photo
    registry.aliases = {"champion": CHAMPION}
    platform: Any = World(night.settings, Photos({}), registry, Endpoint({}), Runs(files))
    platform.serving, platform.clock = night.serving, SystemClock()
    return platform  # type: ignore[no-any-return]


def update(here: Any, challenger: int, timeout: float = PATIENCE) -> EndpointReport:
    serving = here.settings.serving.model_copy(update={"update_timeout": timeout})
    here.settings = here.settings.model_copy(update={"serving": serving})
    here.registry.aliases["challenger"] = challenger
    return work(EndpointRequest("flow", "retrain"), here, silent)


@contextmanager
def new_processes_end(night: Server) -> Iterator[None]:
    """End the model processes that the block starts, so that the next test does not wait for one that hangs."""
    before = night.model_processes()
    yield
    for process in set(night.model_processes()) - set(before):
        process.kill()


def hangs(night: Server) -> bool:
    return "the puppet hangs" in night.serving.build_log(HANGS)


def refused(here: Any, photo: bytes, error: pytest.ExceptionInfo[UpdateFailed], version: int, log: str) -> None:
    """Check everything that must hold after a version did not go live."""
    assert f"version {version} did not go live" in str(error.value)
    assert log in str(error.value).partition("the end of its build log:")[2]
    assert here.registry.aliases == {"champion": CHAMPION}
    assert here.history.told == [("promotion", CHAMPION, version, "failed")]
    answer = here.serving.query([photo])[0]
    assert (answer.served_by, answer.probabilities) == (f"car_damage_classifier-{CHAMPION}", OLD)


def test_a_version_that_does_not_load_does_not_go_live(here: World, photo: bytes) -> None:
    with pytest.raises(UpdateFailed, match="could not serve version 3") as error:
        update(here, RAISES)
    refused(here, photo, error, RAISES, "the puppet was told not to start")


def test_a_version_that_answers_wrongly_is_swapped_out_again(here: World, photo: bytes) -> None:
    with pytest.raises(UpdateFailed, match="after its training") as error:
        update(here, LIES)
    refused(here, photo, error, LIES, "its example")


def test_a_version_whose_files_are_gone_does_not_go_live(here: World, photo: bytes) -> None:
    with pytest.raises(UpdateFailed, match="could not be fetched") as error:
        update(here, GONE)
    refused(here, photo, error, GONE, "fetching models:/")


def test_behind_an_update_of_somebody_else_that_does_not_end_nothing_goes_live(here: World, night: Server, photo: bytes) -> None:
    with new_processes_end(night):
        night.serving.put(HANGS)
        until(lambda: hangs(night), "the hanging")
        with pytest.raises(UpdateFailed, match="busy with version 5") as error:
            update(here, BETTER, timeout=1.0)
        refused(here, photo, error, BETTER, "the puppet hangs")
        assert "champion 1 still answers" in str(error.value)


def test_a_version_that_never_gets_ready_does_not_go_live(here: World, night: Server, photo: bytes) -> None:
    here.clock = Ahead(lambda: hangs(night))  # type: ignore[assignment]
    with new_processes_end(night):
        with pytest.raises(UpdateFailed, match="not ready with version 5 after 120 s") as error:
            update(here, HANGS)
        refused(here, photo, error, HANGS, "the puppet hangs")


def test_a_process_that_takes_too_much_memory_is_ended_and_started_again(here: World, night: Server, photo: bytes) -> None:
    before = set(night.model_processes())
    greedy = night.invoke(json={"dataframe_records": [{"image": "grow"}]})
    assert (greedy.status_code, greedy.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert greedy.json()["message"].endswith("ended during the request: it took more than 768 MiB of memory, see serving.max_memory_bytes")
    until(lambda: night.settled().ready, "another process")
    assert not before & set(night.model_processes())
    assert here.serving.query([photo])[0].probabilities == OLD


def test_the_server_ends_a_start_that_takes_longer_than_its_own_limit(tmp_path: Path, puppets: str) -> None:
    impatient = Server(tmp_path, puppets, update_timeout=5.0).start()
    impatient.serving.put(HANGS)
    state = impatient.settled()
    assert (state.failed, state.served) == (True, None)
    assert "was not ready after 5 seconds" in state.message
    until(lambda: not impatient.model_processes(), "the end of the process that hangs")
    impatient.end()


def test_a_server_that_is_killed_in_the_middle_of_an_update_that_fails_ends_it_when_it_is_back(
    here: World, night: Server, photo: bytes
) -> None:
    with pytest.raises(UpdateFailed, match="could not serve version 3") as error:
        update_with_a_kill(here, night, RAISES)
    until(lambda: night.serving.state().ready, "the champion's return")
    refused(here, photo, error, RAISES, "the puppet was told not to start")


def test_a_server_that_is_killed_in_the_middle_of_an_update_that_succeeds_goes_on_with_it_when_it_is_back(
    here: World, night: Server, photo: bytes
) -> None:
    assert update_with_a_kill(here, night, BETTER).outcome == "promoted"
    assert here.registry.aliases == {"champion": BETTER}
    assert night.serving.query([photo])[0].probabilities == NEW
    night.serving.put(CHAMPION)  # any test may run next, and it needs the champion


def update_with_a_kill(here: World, night: Server, version: int) -> EndpointReport:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(update, here, version)
        until(lambda: night.serving.state().pending == version, "the update")
        night.end(signal.SIGKILL)
        night.start()
        return running.result(timeout=180)
