"""A photo whose content changes between validation and training: this run fails, and the next run uses the photo."""

import os
from pathlib import Path

import pytest

from car_damage.errors import PhotoChanged
from car_damage.pipeline import LiveReport, SilverReport, TrainRequest, ValidateRequest, live_request, silver_request, train_request
from car_damage.platform import Target
from car_damage.settings import Landing, Settings, Training
from car_damage.stage import silent
from car_damage.stages import silver, train, validate
from deployments import demo_photos


def ingest(target: Target) -> SilverReport:
    validated = validate.work(ValidateRequest("flow"), target, silent)
    return silver.work(silver_request(ValidateRequest("flow"), validated), target, silent)


def requested(report: SilverReport, settings: Settings) -> TrainRequest:
    return train_request("flow", report, LiveReport(None, None, None, None, None), live_request(report, settings))


def test_a_photo_that_changes_after_validation_fails_the_run_by_name_and_is_taken_up_by_the_next(tmp_path: Path, home: Path) -> None:
    for label in ("minor", "moderate", "major"):
        (tmp_path / label).mkdir()
        for number in range(5):
            (tmp_path / label / f"{number}.jpg").write_bytes(demo_photos.photo(label, number))
    settings = Settings(home=home, landing=Landing(folder=str(tmp_path)), training=Training(epochs=1))
    target = Target(settings)
    report = ingest(target)
    changed = tmp_path / "major" / "3.jpg"
    changed.write_bytes(demo_photos.photo("major", 99))
    os.utime(changed, ns=(0, 10**18))
    with pytest.raises(PhotoChanged, match=r"major/3\.jpg"):
        train.work(requested(report, settings), target, silent)
    assert target.tracking.recent(5) == []

    again = ingest(target)
    assert (again.rows, again.added, again.removed) == (15, 1, 1)
    trained = train.work(requested(again, settings), target, silent)
    assert [run.run_id for run in target.tracking.recent(5)] == [trained.run_id]
