"""A photo whose content changes between validation and training: this run leaves it out, and the next run gives it a verdict."""

import os
from pathlib import Path

from car_damage.pipeline import LiveReport, SilverReport, TrainRequest, ValidateRequest, live_request, silver_request, train_request
from car_damage.platform import Target
from car_damage.settings import Images, Landing, Settings, Training
from car_damage.stage import silent
from car_damage.stages import silver, train, validate
from deployments import demo_photos


def ingest(target: Target) -> SilverReport:
    validated = validate.work(ValidateRequest("flow"), target, silent)
    return silver.work(silver_request(ValidateRequest("flow"), validated), target, silent)


def requested(report: SilverReport, settings: Settings) -> TrainRequest:
    return train_request("flow", report, LiveReport(None, None, None, None, None), live_request(report, settings))


def overwrite(photo: Path) -> None:
    """Another photo takes this one's place, with the same size and time."""
    before = photo.stat()
    photo.write_bytes(demo_photos.photo("major", 99)[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_photos_that_are_overwritten_before_and_during_a_training_are_left_out_once_and_get_a_verdict_in_the_next_run(
    tmp_path: Path, home: Path
) -> None:
    landing = tmp_path / "landing"
    for label in ("minor", "moderate", "major"):
        (landing / label).mkdir(parents=True)
        for number in range(5):
            (landing / label / f"{number}.jpg").write_bytes(demo_photos.photo(label, number))
    settings = Settings(home=home, landing=Landing(folder=str(landing)), images=Images(cache_bytes=0), training=Training(epochs=2))
    target = Target(settings)
    report = ingest(target)
    early, late = landing / "minor" / "3.jpg", landing / "major" / "3.jpg"

    def after_an_epoch(step: str, done: int, *_: object) -> None:
        if (step, done) == ("epoch", 1):
            overwrite(late)

    overwrite(early)
    trained = train.work(requested(report, settings), target, after_an_epoch)
    assert set(trained.left_out) == {str(early), str(late)}

    validated = validate.work(ValidateRequest("flow"), target, silent)
    assert (validated.new, validated.judged_again) == (0, 2)
    again = silver.work(silver_request(ValidateRequest("flow"), validated), target, silent)
    assert again.fingerprint != report.fingerprint
    assert train.work(requested(again, settings), target, silent).left_out == ()
