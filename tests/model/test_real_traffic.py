"""When the flow monitor speaks on real photos: the short form of `python -m benchmarks monitor`."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import monitor, monitor_photos, real_photos
from car_damage.monitoring.samples import Sample
from car_damage.photo.decoder import decode
from car_damage.photo.signals import signals

PHOTOS = 80
"""Of each class, for the baseline and for the traffic."""


@pytest.fixture(scope="module")
def place() -> Path:
    found = real_photos.folder()
    if found is None:
        pytest.skip(f"no real photos at {real_photos.FOLDER}")
    return found


def looks(files: list[Path], kind: str = "", level: int = 0) -> Sample:
    """What the photos look like. Nothing answers them here, which needs a network and minutes."""
    read = monitor_photos.at(kind, level) if level else Path.read_bytes
    photos = [decode(read(file)) for file in files]
    brightness, sharpness = np.array([signals(photo.pixels) for photo in photos]).T
    width, height = np.array([(photo.width, photo.height) for photo in photos]).T
    inputs = {"brightness": brightness, "sharpness": sharpness, "size": np.log2(width * height), "aspect": np.log2(width / height)}
    nothing = np.zeros(len(files), np.int64)
    return Sample(inputs, np.full((len(files), 3), 1 / 3), nothing, nothing.astype(bool))


def files_of(part: Path) -> list[Path]:
    return [file for name in real_photos.FOLDERS for file in sorted((part / name).iterdir())[:PHOTOS]]


def test_a_hundred_quiet_days_ring_once_at_most_and_a_slow_dusk_rings_while_it_is_light(place: Path) -> None:
    baseline, files = looks(files_of(place / "train")), files_of(place / "val")
    levels = [looks(files, "night", level) for level in range(monitor_photos.LEVELS + 1)]
    quiet, night = monitor.of_levels((levels[0], levels[0])), monitor.of_levels(tuple(levels))
    assert monitor.watch(baseline, quiet, seed=0).alarms <= 1
    told = monitor.watch(baseline, night, seed=0, days=60)
    assert told.alarm is not None
    assert monitor.BEGINS < told.alarm < 40  # the true macro-F1 falls by five points after day 60: docs/monitoring.md
    assert "brightness" in told.what


@pytest.mark.parametrize("kind", ["night", "blur", "rotation", "compression"])
def test_with_a_model_it_rings_before_five_points_are_lost(place: Path, kind: str) -> None:
    if not (monitor_photos.KEPT / "another car park-3.npz").exists():
        pytest.skip(f"{monitor_photos.KEPT} is not complete: python -m benchmarks monitor writes it")
    of = monitor_photos.world(place)
    story = monitor.stories(of)[kind]
    lost = monitor.lost_on(story)
    assert lost is not None
    told = monitor.watch(of.model.baseline, story, seed=1, days=lost)
    assert told.alarm is not None
    assert told.alarm > monitor.BEGINS
