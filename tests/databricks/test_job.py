"""The wheel's entry point runs the stages that a flow run requests, in its own process, and writes their reports."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from car_damage.adapters.folder import Folder
from car_damage.data.forgotten import mark_of
from car_damage.errors import SettingsError, Terminal, Unavailable, UnexpectedError
from car_damage.job import code, handover, run
from car_damage.job.handover import Place
from car_damage.pipeline import ForgetReport, ForgetRequest, SilverReport, SilverRequest, ValidateReport, ValidateRequest, silver_request
from car_damage.platform import Target
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.validate import STAGE as VALIDATE
from deployments import demo_photos
from tests.searched import found
from tests.tables.conftest import HandClock

REQUEST = ValidateRequest("flow-1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job") / "landing"
    demo_photos.write(folder)
    return folder


@pytest.fixture
def settings(photos: Path, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", landing={"folder": str(photos)})


@pytest.fixture
def place(tmp_path: Path, settings: Settings) -> Place:
    place = Place.of(str(tmp_path / "ops"), "validate", REQUEST)
    handover.write_request(Folder(), place, REQUEST, {}, settings)
    return place


def job(place: Place, stages: str = "validate,silver", job_run: int = 7) -> "subprocess.CompletedProcess[str]":
    given = [f"--request={place.request}", f"--stages={stages}", f"--job-run={job_run}"]
    command = [sys.executable, "-X", "importtime", "-m", "car_damage.job.run", *given]
    # The request carries the settings; those in the cluster's environment have no effect.
    environment = os.environ | {"CAR_DAMAGE_LANDING__FOLDER": "/elsewhere"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_the_stages_of_a_job_end_as_they_do_in_the_flow_s_own_process(place: Place, settings: Settings, tmp_path: Path) -> None:
    done = job(place)
    assert done.returncode == 0, done.stdout + done.stderr
    validated = handover.read_report(Folder(), place, ValidateReport)
    wanted = silver_request(ValidateRequest("flow-1"), validated)
    silver = handover.read_report(Folder(), replace(place, stage="silver", key=Place.of("", "silver", wanted).key), SilverReport)

    here = Target(settings.model_copy(update={"home": tmp_path / "other"}))
    assert validated == VALIDATE.run(REQUEST, here, silent)
    assert silver == SILVER.run(wanted, here, silent)
    assert "validate: 68 of 68" in done.stdout
    assert "stage silver: done" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "deltalake" in imported
    assert {"databricks.sdk", "keras", "mlflow", "prefect"}.isdisjoint(imported), "the job starts without what its stages do not need"


def test_a_job_has_a_photo_forgotten_and_neither_request_nor_report_nor_output_has_its_hash(
    place: Place, settings: Settings, photos: Path, tmp_path: Path
) -> None:
    assert job(place).returncode == 0
    photo = next(photos.rglob("major_00*.jpg"))
    sha256 = hashlib.sha256(photo.read_bytes()).hexdigest()
    wanted = ForgetRequest("flow-1", mark_of(sha256), "who")
    forget = Place.of(str(tmp_path / "ops"), "forget", wanted)
    handover.write_request(Folder(), forget, wanted, {}, settings)
    done = job(forget, "forget")
    assert done.returncode == 0, done.stdout + done.stderr
    report = handover.read_report(Folder(), forget, ForgetReport)
    assert (report.files, report.versions) == ((str(photo),), ())
    assert not found(tmp_path, {"hash": sha256.encode()})
    assert sha256 not in done.stdout


def test_what_was_done_is_not_done_again(place: Place, settings: Settings) -> None:
    assert job(place).returncode == 0
    table = Target(settings).tables
    before = table.read(settings.tables.silver, ["path"])[1]
    report = Path(place.report).stat().st_mtime_ns
    again = job(place, job_run=8)
    assert again.returncode == 0
    assert "68 of 68" not in again.stdout
    assert table.read(settings.tables.silver, ["path"])[1] == before
    assert Path(place.report).stat().st_mtime_ns == report


def test_a_run_that_was_ended_between_two_stages_is_gone_on_with(place: Place) -> None:
    assert job(place, "validate").returncode == 0
    assert not list(Path(place.report).parent.parent.glob("silver/*"))
    again = job(place)
    assert again.returncode == 0
    assert "68 of 68" not in again.stdout
    assert len([path for path in Path(place.report).parent.parent.glob("silver/*.json") if "progress" not in path.name]) == 1


def test_a_failure_leaves_word_that_names_the_stage(tmp_path: Path, settings: Settings) -> None:
    nowhere = settings.model_copy(update={"landing": settings.landing.model_copy(update={"folder": f"{tmp_path}/nowhere/"})})
    place = Place.of(str(tmp_path / "ops"), "validate", REQUEST)
    handover.write_request(Folder(), place, REQUEST, {}, nowhere)
    done = job(place)
    assert done.returncode == 1
    error = handover.read_failure(Folder(), place, 7)
    assert type(error) is SettingsError
    assert str(error).startswith(f"stage validate: the folder {tmp_path}/nowhere")
    assert str(error) in done.stderr
    assert handover.read_report(Folder(), place, ValidateReport) is None


def test_a_job_may_begin_with_a_later_stage(place: Place, tmp_path: Path) -> None:
    assert job(place, "validate").returncode == 0
    wanted = SilverRequest("flow-1", handover.read_report(Folder(), place, ValidateReport).bronze_version)
    silver = Place.of(str(tmp_path / "ops"), "silver", wanted)
    told = handover.read_request(Folder(), place.request)
    handover.write_request(Folder(), silver, wanted, {}, Settings.model_validate(told.settings))
    assert job(silver, "silver").returncode == 0
    assert handover.read_report(Folder(), silver, SilverReport).rows == 56


def test_a_request_of_another_stage_is_refused(place: Place) -> None:
    with pytest.raises(SettingsError, match="is a request for the stage validate, but the job's parameters begin with the stage silver"):
        run.run(Folder(), place.request, ["silver"], 7)


def test_a_job_of_another_version_leaves_word_of_what_to_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "fingerprint", lambda: "other")
    with pytest.raises(SettingsError):
        run.run(Folder(), place.request, ["validate"], 7)
    assert "have different code: give the job the wheel" in str(handover.read_failure(Folder(), place, 7))


def test_what_nobody_foresaw_leaves_word_too(place: Place, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Settings) -> None:
        raise KeyError("a cluster without it")

    monkeypatch.setattr(run, "Target", broken)
    with pytest.raises(KeyError):
        run.run(Folder(), place.request, ["validate"], 7)
    error = handover.read_failure(Folder(), place, 7)
    assert (type(error), str(error)) == (UnexpectedError, "stage validate: KeyError: 'a cluster without it'")


class Shaky(Folder):
    """A folder whose storage is unavailable at every second attempt to write."""

    def __init__(self) -> None:
        self.tries = 0

    def write_once(self, path: str, data: bytes) -> None:
        self.tries += 1
        if self.tries % 2:
            raise Unavailable("the volume hiccups")
        super().write_once(path, data)


def test_a_report_is_not_lost_to_storage_that_is_away_for_a_while(place: Place) -> None:
    clock, shaky = HandClock(), Shaky()
    run.run(shaky, place.request, ["validate"], 7, clock)
    assert handover.read_report(Folder(), place, ValidateReport).listed == 68
    assert shaky.tries == 2


def test_a_job_that_a_person_starts_says_who_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["car-damage-job", "--request=", "--stages=", "--job-run=7"])
    with pytest.raises(SettingsError, match="a flow run starts this job"):
        run.main()


def test_a_place_is_found_by_its_request(place: Place) -> None:
    assert Place.at(place.request) == place


@pytest.mark.parametrize("name", ["endpoint", "swap", "nothing"])
def test_what_is_no_stage_of_a_job_is_refused(name: str) -> None:
    with pytest.raises(Terminal, match=f"{name} is no stage that a job does"):
        run.stage_named(name)


@pytest.mark.parametrize("name", ["validate", "silver", "train", "register", "score", "monitor"])
def test_every_stage_of_a_job_is_found_by_its_name(name: str) -> None:
    stage = run.stage_named(name)
    assert stage.name == name
    assert "flow_run" in stage.request.__dataclass_fields__
