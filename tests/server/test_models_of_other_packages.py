"""A champion that other packages made and that does not load here is judged in an environment of its own, and doctor tells it before."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from car_damage.errors import ModelRefused, Terminal
from car_damage.model.pixels.photos import Photos
from car_damage.model.run_files import PREDICTIONS_FILE, write_predictions
from car_damage.model.served.process import answers
from car_damage.packages import installed
from car_damage.pipeline import RegisterRequest
from car_damage.ports import ModelVersion
from car_damage.settings import Databricks, Promotion, Settings
from car_damage.stage import silent
from car_damage.stages import register
from deployments import champion
from tests.fakes import Endpoint, Runs, Table, Versions, World, sha256
from tests.fakes import Photos as Files
from tests.server.conftest import CLASSES, jpeg

OTHER = "12.0.0"
"""A version of Pillow that is not installed here."""
CHOOSY = """
import mlflow
import pandas
import PIL

class Choosy(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        wanted = context.model_config["pillow"]
        if wanted and PIL.__version__ != wanted:
            raise RuntimeError(f"this model does not load with Pillow {PIL.__version__}")

    def predict(self, context, model_input: pandas.DataFrame, params=None):
        row = {"label": "major", "probability": 1.0, "probability_minor": 0.0, "probability_moderate": 0.0, "probability_major": 1.0}
        return pandas.DataFrame([row | {"sha256": PIL.__version__}] * len(model_input))

mlflow.models.set_model(Choosy())
"""

Save = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _with_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the tests has uv, whether or not this machine has it."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a model that names a version of Pillow in its requirements, and loads with one only; empty: with any."""

    def saved(named: str, loads_with: str) -> Path:
        import mlflow

        code, folder = tmp_path / "choosy.py", tmp_path / "model"
        code.write_text(CHOOSY)
        packages = {**{name: str(installed(name)) for name in ("mlflow-skinny", "numpy", "pandas")}, "pillow": named}
        requirements = [f"{name}=={version}" for name, version in packages.items()]
        mlflow.pyfunc.save_model(str(folder), python_model=str(code), model_config={"pillow": loads_with}, pip_requirements=requirements)
        return folder

    return saved


def with_champion(model: Path, settings: Settings | None = None) -> World:
    """Version 1 is live, and this is its model. A candidate is right on all four test photos."""
    photos = {f"/landing/{number}.jpg": jpeg(320, 240, turn=60 * number) for number in range(4)}
    truth = np.array([0, 1, 2, 0])
    shas = [sha256(data) for data in photos.values()]
    labels, hashes = [CLASSES[number] for number in truth], [int(sha[:15], 16) for sha in shas]
    rows = {"path": list(photos), "label": labels, "sha256": shas, "phash": hashes, "split": ["test"] * 4}
    rows |= {"width": [300] * 4, "height": [200] * 4}
    decoded = Photos(np.zeros((4, 1, 1, 3), np.uint8), truth, tuple(shas), tuple(photos))
    runs = Runs({("run", PREDICTIONS_FILE): write_predictions(decoded, np.eye(3)[truth], CLASSES)})
    registry = Versions()
    registry.add(1, decision="promote", judged_against="none", silver_version="1")
    registry.aliases["champion"] = 1
    registry.versions[2] = ModelVersion(2, "run")
    registry.folders["models:/model/1"] = model
    settings = settings or Settings(promotion=Promotion(recall_floor={}))
    return World(settings, Files(photos), registry, Endpoint({}), runs, Table(pa.table(rows)))


def test_a_champion_that_does_not_load_here_is_judged_with_its_own_packages(save: Save) -> None:
    here = with_champion(save(OTHER, OTHER))
    report = register.work(RegisterRequest("flow", "run", "models:/m-1", 1), here, silent)  # type: ignore[arg-type]
    assert report.evidence is not None
    assert report.evidence.champion is not None
    assert report.evidence.champion.confusion == [[0, 0, 2], [0, 0, 1], [0, 0, 1]]


def test_a_model_that_loads_here_runs_here_whatever_packages_it_names(save: Save, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # no uv
    (answer,) = answers(save(OTHER, ""), [photo], timeout=120, environment="fitting")
    assert answer.sha256 == installed("pillow")


def test_a_model_that_loads_nowhere_is_refused_with_both_versions_and_what_to_do(
    save: Save, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    needs = rf"made with pillow {OTHER} \(here {installed('pillow')}\), and does not load here.* install uv.*this model does not load with"
    with pytest.raises(ModelRefused, match=f"(?s){needs}"):
        answers(save(OTHER, OTHER), [photo], timeout=120, environment="fitting")


def test_packages_that_cannot_be_had_are_told_with_the_error_of_the_model(save: Save, photo: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"(?s)let it reach a package index.*could not build.*this model does not load with"):
        answers(save("0.0.1", "0.0.1"), [photo], timeout=120, environment="fitting")


def test_a_fault_of_a_model_with_the_packages_that_are_here_is_its_own(save: Save, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelRefused, match=r"(?s)ended \(exit 1\) after 0 answers.*this model does not load with") as refused:
        answers(save(str(installed("pillow")), OTHER), [photo], timeout=120, environment="fitting")
    assert "install uv" not in str(refused.value)


def test_doctor_names_the_version_that_does_not_load_here_with_its_packages_and_ours(save: Save) -> None:
    with pytest.raises(
        ModelRefused, match=rf"^version 1 was made with pillow {OTHER} \(here {installed('pillow')}\), and does not load here"
    ):
        champion.check(with_champion(save(OTHER, OTHER)))  # type: ignore[arg-type]


def test_doctor_loads_a_champion_of_other_packages_and_says_that_it_does(save: Save) -> None:
    here = with_champion(save(OTHER, ""))
    assert champion.check(here).endswith("and loads here")  # type: ignore[arg-type]


def test_doctor_loads_no_champion_that_was_made_with_what_is_here(save: Save) -> None:
    here = with_champion(save(str(installed("pillow")), OTHER))  # it would not load
    assert champion.check(here) == "version 1 was made with the packages that are installed here"  # type: ignore[arg-type]


def test_doctor_leaves_a_champion_of_jobs_to_the_jobs(save: Save) -> None:
    here = with_champion(save(OTHER, OTHER), Settings(databricks=Databricks(stages="jobs")))
    assert champion.check(here).startswith("not checked here")  # type: ignore[arg-type]


def test_a_fresh_environment_without_uv_names_what_is_missing(save: Save, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Terminal, match="needs the program uv"):
        answers(save(OTHER, OTHER), [photo], timeout=120, environment="uv")
