"""When the flow monitor speaks on real photos: the short form of `python -m benchmarks monitor`."""

from pathlib import Path

import pytest

from benchmarks import monitor, monitor_photos
from benchmarks.monitor_photos import World

KINDS = ("night", "blur")


@pytest.fixture(scope="module")
def world(place: Path) -> World:
    """Traffic that becomes as bad as the first of three levels."""
    return monitor_photos.world(place, KINDS, levels=1)


def test_a_hundred_quiet_days_ring_once_at_most(world: World) -> None:
    assert monitor.watch(world.model.baseline, monitor.stories(world)["quiet"], seed=0).alarms <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_photos_that_get_slowly_worse_ring_before_five_points_are_lost(world: World, kind: str) -> None:
    story = monitor.stories(world)[kind]
    told = monitor.watch(world.model.baseline, story, seed=1)
    assert told.alarm is not None
    assert told.alarm > monitor.BEGINS
    assert story.loss(monitor.course(told.alarm)) < monitor.LOSS
