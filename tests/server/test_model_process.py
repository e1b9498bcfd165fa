"""A model in a separate process: its answers, its environment, and why it is refused."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from car_damage.errors import ModelRefused
from car_damage.model.served import host
from car_damage.model.served.process import Conversation, ModelAnswer, answers, conversation
from car_damage.photo.decoder import decode
from tests.server.conftest import CLASSES, LIMIT, Models, jpeg, network_answer, own_answer

BLABBER = """
import os
import mlflow
import pandas

class Blabber(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        import car_damage
        raise RuntimeError(f"variables: {sorted(os.environ)} package: {car_damage.__file__} here: {os.listdir()}")

    def predict(self, context, model_input: pandas.DataFrame, params=None):
        return model_input

mlflow.models.set_model(Blabber())
"""


PHOTOS = [*[jpeg(120, 90, turn) for turn in range(70)], b"no photo", jpeg(60, 40), *[jpeg(120, 90, turn) for turn in range(70, 130)]]
NO_PHOTO, TOO_SMALL = 70, 71


def test_a_log_says_what_was_answered_to_the_example_and_not_which_photo_it_is() -> None:
    answer = {"label": "minor", "probability": 0.75, "sha256": "ab" * 32}
    assert host._brief(json.dumps({"predictions": [answer]})) == "minor 0.75"
    assert host._brief(json.dumps({"predictions": [0.75]})) == "answered"


@pytest.fixture(scope="module")
def given(models: Models) -> list[ModelAnswer]:
    """Answers of a model whose config has no limits and no preparation, to more than two batches. It refuses two photos."""
    return answers(models.folders[1], iter(PHOTOS), timeout=120)


@pytest.fixture(scope="module")
def given_by_altered(models: Models, photo: bytes) -> list[ModelAnswer]:
    """Answers of a model that has its own decoder and limits."""
    return answers(models.folders[models.altered], [photo, jpeg(LIMIT + 20, LIMIT - 1), jpeg(LIMIT, LIMIT)], timeout=120)


def test_a_model_answers_as_keras_does_photo_by_photo_in_order(models: Models, given: list[ModelAnswer]) -> None:
    answered = [(answer.sha256, photo) for answer, photo in zip(given, PHOTOS, strict=True) if not answer.refused]
    assert len(answered) == 130
    assert [sha256 for sha256, _ in answered] == [hashlib.sha256(photo).hexdigest() for _, photo in answered]
    own = own_answer(models.keras_files[1], PHOTOS[-1])
    assert list(given[-1].probabilities) == list(CLASSES)
    assert list(given[-1].probabilities.values()) == pytest.approx(own, abs=1e-4)
    assert given[-1].label == CLASSES[own.index(max(own))]


def test_a_photo_that_the_model_refuses_takes_no_other_along_and_its_reason_is_told(given: list[ModelAnswer]) -> None:
    refused = {number: answer for number, answer in enumerate(given) if answer.refused}
    assert list(refused) == [NO_PHOTO, TOO_SMALL]
    assert refused[NO_PHOTO].refused.startswith("not an image")
    assert refused[TOO_SMALL] == ModelAnswer("", 0.0, {}, "", "too small: 60x40, each side must have at least 48 pixels")


def test_a_model_answers_with_the_decoder_that_it_brought_along(models: Models, photo: bytes, given_by_altered: list[ModelAnswer]) -> None:
    probabilities = list(given_by_altered[0].probabilities.values())
    negative = network_answer(models.keras_files[models.altered], 255 - decode(photo).pixels)
    assert probabilities == pytest.approx(negative, abs=1e-4)
    assert probabilities != pytest.approx(own_answer(models.keras_files[models.altered], photo), abs=1e-3)


def test_a_model_holds_photos_to_the_limits_that_it_was_logged_with(given_by_altered: list[ModelAnswer]) -> None:
    below, at = given_by_altered[1:]
    assert below.refused == f"too small: {LIMIT + 20}x{LIMIT - 1}, each side must have at least {LIMIT} pixels"
    assert not at.refused


@pytest.fixture(scope="module")
def blabber(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that fails to load with an error that lists its environment variables, its package and its working folder."""
    import mlflow

    folder = tmp_path_factory.mktemp("blabber")
    (folder / "blabber.py").write_text(BLABBER)
    (folder / "car_damage").mkdir()
    (folder / "car_damage" / "__init__.py").touch()
    mlflow.pyfunc.save_model(
        path=str(folder / "model"), python_model=str(folder / "blabber.py"), code_paths=[str(folder / "car_damage")], pip_requirements=[]
    )
    return folder / "model"


def test_the_process_sees_no_credentials_and_the_models_own_package(blabber: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "ARM_CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "CAR_DAMAGE_HOME"):
        monkeypatch.setenv(name, "secret")
    with pytest.raises(ModelRefused) as refused:
        answers(blabber, [photo], timeout=120)
    said = str(refused.value)
    variables = said.rpartition("variables: ")[2].partition("]")[0]
    assert "'PATH'" in variables
    assert not [word for word in ("DATABRICKS", "ARM_", "AWS_", "CAR_DAMAGE") if word in variables]
    assert f"package: {blabber / 'code' / 'car_damage' / '__init__.py'}" in said
    assert "here: []" in said


def test_a_model_that_does_not_answer_in_time_is_refused_and_its_process_ends(models: Models, photo: bytes) -> None:
    before = set(psutil.Process().children())
    with pytest.raises(ModelRefused, match=r"no answer for 0\.2 seconds"):
        answers(models.folders[1], [photo], timeout=0.2)
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(("program", "told"), [("print(flush=True)", "went on"), ("os.close(1)", "closed its output")])
def test_a_process_that_neither_reads_nor_ends_is_refused(tmp_path: Path, program: str, told: str) -> None:
    (tmp_path / "stderr").touch()
    command = [sys.executable, "-c", f"import os, time; {program}; time.sleep(600)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            with pytest.raises(ModelRefused, match=f"{told} after 0 answers"):
                list(Conversation(process, tmp_path / "stderr", tmp_path).answers([bytes(1 << 20)], timeout=3))
        finally:
            process.kill()


def test_the_time_that_reading_a_photo_takes_is_not_the_models(tmp_path: Path) -> None:
    host = (
        "import sys\n"
        "while length := int.from_bytes(sys.stdin.buffer.read(8), 'big'):\n"
        "    sys.stdin.buffer.read(length)\n"
        '    print(\'{"refused": "no photo"}\', flush=True)\n'
        "print(flush=True)\n"
    )

    def photos() -> Iterator[bytes]:
        time.sleep(4)  # slow storage
        yield b"photo"

    command = [sys.executable, "-c", host]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        given = list(Conversation(process, tmp_path / "stderr", tmp_path).answers(photos(), timeout=2))
    assert [answer.refused for answer in given] == ["no photo"]


def test_an_error_while_photos_are_read_is_the_callers_error(models: Models, photo: bytes) -> None:
    def photos() -> Iterator[bytes]:
        yield photo
        raise LookupError("the second photo is gone")

    with pytest.raises(LookupError, match="the second photo is gone"):
        answers(models.folders[1], photos(), timeout=120)


def test_a_process_answers_one_series_after_another_with_the_threads_that_it_may_have(
    models: Models, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with conversation(models.folders[1], timeout=120) as asked:
        first = list(asked.answers([photo, b"no photo"], 120))
        assert [bool(answer.refused) for answer in first] == [False, True]
        assert list(asked.answers([], 120)) == []
        assert list(asked.answers([photo], 120)) == first[:1]
        assert psutil.Process(asked._process.pid).num_threads() <= 3  # one that decodes, and those of MLflow and of the answers
