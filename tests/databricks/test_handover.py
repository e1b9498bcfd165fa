"""Files that a flow run and its job exchange are read whole or not at all."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from car_damage import errors, settings_sources
from car_damage.adapters.databricks.volume import Volume
from car_damage.adapters.folder import Folder
from car_damage.errors import CarDamageError, Terminal, Transient, Unavailable
from car_damage.job import code, handover
from car_damage.job.handover import Place, remove_old
from car_damage.pipeline import (
    Evidence,
    RegisterReport,
    Score,
    ScoreReport,
    ScoreRequest,
    SilverReport,
    TrainReport,
    ValidateReport,
    ValidateRequest,
)
from car_damage.settings import Settings
from tests.databricks.twin import Twin
from tests.databricks.twin.core import PAGE

REQUEST = ValidateRequest("flow-1", allow_removals=True)
REPORTS = [
    ValidateReport(60, 56, {"empty": 1}, ("/landing/locked.jpg",), 1, 0, 0, 3, "f" * 64),
    SilverReport(4, 2, "a" * 64, 56, 56, 0, 0, 60, {}, {"minor": {"train": 10}}, {"empty": ("/a", "/b")}, {"/a": "0 bytes"}, {"empty": 1}),
    TrainReport("key", "run", "models:/m-1", {"test_accuracy": 0.9}),
    RegisterReport(3, "promote", ("ahead by 0.1",), 2, False, Evidence(4, Score(0.5, {"minor": None}, [[1, 2], [3, 4]], 0.1))),
    ScoreReport(1, "/photos", 5, 4, {"minor": 4}, 1, {"/a": "empty"}, (), 0, 0),
]


@pytest.fixture
def files() -> Folder:
    return Folder()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.of(f"{tmp_path}/", "validate", REQUEST)


def test_a_request_is_found_by_what_it_asks_for(files: Folder, place: Place, tmp_path: Path) -> None:
    handover.write_request(files, place, REQUEST, {"dry_run": True}, Settings(home=tmp_path))
    assert Path(place.request).parent == tmp_path / "flow-1" / "validate"
    asked = handover.read_request(files, place.request)
    assert ValidateRequest(**asked.request) == REQUEST
    assert Settings.model_validate(asked.settings).home == tmp_path
    assert (asked.stage, asked.options, asked.folder) == ("validate", {"dry_run": True}, str(tmp_path))
    other = Place.of(str(tmp_path), "validate", ValidateRequest("flow-1"))
    assert other.request != place.request


def test_no_secret_of_spark_s_settings_travels(files: Folder, place: Place) -> None:
    conf = {"spark.hadoop.fs.azure.account.key": "secret-marker"}
    handover.write_request(files, place, REQUEST, {}, Settings(spark={"master": "sc://host:443/;token=secret-marker", "conf": conf}))
    assert b"secret-marker" not in Path(place.request).read_bytes()


def test_a_password_in_an_address_is_refused_where_it_would_be_handed_over() -> None:
    uri = "https://user:secret-marker@mlflow.example"
    assert Settings(tracking={"uri": uri}).tracking.uri == uri
    with pytest.raises(ValueError, match="uri must not contain a password if") as raised:
        Settings(tracking={"uri": uri}, databricks={"stages": "jobs"})
    assert "secret-marker" not in settings_sources._explain(raised.value, None)


def test_a_request_of_other_code_says_what_to_run(files: Folder, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    handover.write_request(files, place, REQUEST, {}, Settings())
    monkeypatch.setattr(code, "fingerprint", lambda: "other")
    with pytest.raises(Terminal, match="have different code: give the job the wheel of the worker's code"):
        handover.read_request(files, place.request)


def test_a_request_that_is_not_there_may_come_yet(files: Folder, place: Place) -> None:
    with pytest.raises(Unavailable, match="is not there"):
        handover.read_request(files, place.request)


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: type(report).__name__)
def test_a_report_comes_back_as_it_was(files: Folder, place: Place, report: object) -> None:
    assert handover.read_report(files, place, type(report)) is None
    handover.write_report(files, place, report)
    again = handover.read_report(files, place, type(report))
    assert again == report
    assert json.dumps(asdict(again)) == json.dumps(asdict(report))  # type: ignore[call-overload]


def test_the_first_report_stands(files: Folder, place: Place) -> None:
    first, second = TrainReport("key", "run", "models:/m-1", {}), TrainReport("key", "other", "models:/m-2", {})
    handover.write_report(files, place, first)
    handover.write_report(files, place, second)
    assert handover.read_report(files, place, TrainReport) == first


def test_half_a_file_is_none_at_every_length_and_does_not_stand_in_the_way(files: Folder, place: Place, tmp_path: Path) -> None:
    report = REPORTS[0]
    handover.write_report(files, place, report)
    whole = Path(place.report).read_bytes()
    for length in range(len(whole)):
        Path(place.report).write_bytes(whole[:length])
        assert handover.read_report(files, place, ValidateReport) is None
    for tail in (b"\0" * 40, whole[-1:] * 2):
        Path(place.report).write_bytes(whole[: -len(tail)] + tail)
        assert handover.read_report(files, place, ValidateReport) in (None, report)
    Path(place.report).write_bytes(whole[:100])
    handover.write_report(files, place, report)
    assert handover.read_report(files, place, ValidateReport) == report


def test_a_number_that_was_changed_is_noticed(files: Folder, place: Place) -> None:
    handover.write_report(files, place, REPORTS[0])
    Path(place.report).write_text(Path(place.report).read_text().replace('"accepted": 56', '"accepted": 57'))
    assert handover.read_report(files, place, ValidateReport) is None


def test_storage_on_which_nothing_gets_whole_is_told(place: Place) -> None:
    class Full(Folder):
        def replace(self, path: str, data: bytes) -> None:
            super().replace(path, data[:7])

    Path(place.report).parent.mkdir(parents=True)
    Path(place.report).write_bytes(b'{"body"')
    with pytest.raises(Unavailable, match="half written"):
        handover.write_report(Full(), place, REPORTS[0])


def test_a_report_of_another_shape_is_told(files: Folder, place: Place) -> None:
    handover.write_report(files, place, REPORTS[2])
    with pytest.raises(Terminal, match="another version of car-damage wrote it"):
        handover.read_report(files, place, ValidateReport)


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Transient | Terminal)]
)
def test_an_error_comes_back_as_what_it_was(files: Folder, place: Place, kind: type[CarDamageError]) -> None:
    assert handover.read_failure(files, place, 7) is None
    handover.write_failure(files, place, 7, kind("stage validate: what to do"))
    error = handover.read_failure(files, place, 7)
    assert (type(error), str(error)) == (kind, "stage validate: what to do")
    assert handover.read_failure(files, place, 8) is None, "another run of the job"


def test_an_error_that_only_a_newer_job_knows_keeps_its_kind(files: Folder, place: Place) -> None:
    class Quota(Transient):
        pass

    handover.write_failure(files, place, 7, Quota("later"))
    assert type(handover.read_failure(files, place, 7)) is Transient


def test_a_file_that_cannot_be_read_now_is_no_file_that_is_not_there(files: Folder, place: Place) -> None:
    Path(place.report).mkdir(parents=True)  # reading a folder fails with an error other than not found
    with pytest.raises(Unavailable, match="cannot be read"):
        handover.read_report(files, place, ValidateReport)


def test_the_request_s_place_needs_no_more_than_its_flow_run(tmp_path: Path) -> None:
    assert Place.of(str(tmp_path), "score", ScoreRequest("flow-2")).report.startswith(f"{tmp_path}/flow-2/score/")


def test_the_hand_overs_of_old_flow_runs_are_removed_from_the_workspace_and_those_of_young_ones_stay(
    twin: Twin, settings: Settings
) -> None:
    """More files than one answer of the workspace lists."""
    volume, folder = Volume(), settings.databricks.handovers
    for flow_run in ("old", "young"):
        for number in range(PAGE + 1):
            volume.write_once(f"{folder}{flow_run}/train/{number}.json", b"report")
    for path in twin.volume(folder).glob("old/*/*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    settings = in_jobs(settings, folder)
    found = remove_old(volume, settings, datetime.now(UTC), dry_run=True)
    assert [(of.name, of.items, of.bytes) for of in found] == [(folder, PAGE + 1, 6 * (PAGE + 1))]
    assert {path.name for path in twin.volume(folder).iterdir()} == {"old", "young"}
    assert remove_old(volume, settings, datetime.now(UTC)) == found
    assert [path.name for path in twin.volume(folder).iterdir()] == ["young"]
    assert remove_old(volume, settings, datetime.now(UTC)) == []
    volume.remove(f"{folder}old")
    volume.remove(f"{folder}young/train/0.json")
    assert len(list(twin.volume(folder).glob("young/train/*"))) == PAGE


def test_a_flow_run_that_wrote_lately_keeps_its_old_hand_overs(files: Folder, tmp_path: Path) -> None:
    for name in ("0.json", "1.json"):
        files.write_once(f"{tmp_path}/flow/train/{name}", b"report")
    os.utime(tmp_path / "flow" / "train" / "0.json", (1_700_000_000, 1_700_000_000))
    assert remove_old(files, in_jobs(Settings(), f"{tmp_path}/"), datetime.now(UTC)) == []


def test_where_no_stage_runs_in_a_job_no_folder_is_looked_at() -> None:
    assert remove_old(Volume(), Settings(), datetime.now(UTC)) == []


def in_jobs(settings: Settings, folder: str) -> Settings:
    """The settings of stages that run as jobs and hand over in this folder, for one day."""
    databricks = settings.databricks.model_copy(update={"stages": "jobs", "handovers": folder, "keep_days": 1})
    return settings.model_copy(update={"databricks": databricks})
