"""A search writes its trials below the run of its training, and goes on with those of a run that was killed."""

from pathlib import Path

import pytest

from car_damage.adapters.mlflow.archive import MlflowArchive
from car_damage.adapters.mlflow.client import client
from car_damage.adapters.mlflow.tracking import PARENT_TAG, MlflowTracking
from car_damage.pipeline import TrainRequest
from car_damage.platform import Target
from car_damage.ports import Platform
from car_damage.settings import Settings, Training
from car_damage.stage import silent
from car_damage.stages.training import search
from tests.fakes import Time

KEY = "k" * 64
REQUEST = TrainRequest("flow-1", 1, "f" * 64, KEY)


class World(Target):
    """A platform whose time a test moves."""

    clock = Time()  # type: ignore[assignment]


@pytest.fixture
def world(home: Path) -> World:
    return World(Settings(home=home, training=Training(search_minutes=5)))


def children(world: Platform, run_id: str) -> list[str]:
    experiment = client(world.settings).get_experiment_by_name(world.settings.tracking.experiment)
    runs = client(world.settings).search_runs([experiment.experiment_id], f"tags.`{PARENT_TAG}` = '{run_id}'")
    return sorted(run.info.run_name for run in runs if run.info.status == "FINISHED")


def test_a_search_that_was_killed_goes_on_with_its_trials_and_what_is_left_of_its_time(world: World) -> None:
    tracking, asked = MlflowTracking(world.settings), []

    def loss(training: Training) -> float:
        world.clock.sleep(60)
        asked.append(training)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return float("nan") if len(asked) == 2 else 1 / len(asked)

    first = tracking.start("run", {"training_key": KEY})
    with pytest.raises(KeyboardInterrupt):
        search.searched(REQUEST, first, world, loss, silent)
    assert children(world, first) == ["trial-1", "trial-2"]
    second = tracking.start("run", {"training_key": KEY})
    found = search.searched(REQUEST, second, world, loss, silent)
    assert (children(world, first), children(world, second)) == ([], [f"trial-{number}" for number in range(1, 6)])
    assert len(asked) == 6
    assert found.settings.training == asked[-1]
    assert asked[0] == world.settings.training
    [summary] = [run for run in tracking.recent() if run.run_id == second]
    MlflowArchive(world.settings).remove([summary])
    assert children(world, second) == []


def test_a_search_ends_where_all_settings_were_tried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST", 12)
    few = World(world.settings.model_copy(update={"training": Training(network="transfer", components=16, views=(), search_minutes=1)}))
    monkeypatch.setattr(search, "proposal", lambda *_: {"head": "ordinal"})
    run = MlflowTracking(world.settings).start("run", {"training_key": KEY})
    assert search.searched(REQUEST, run, few, lambda _: 1.0, silent).settings.training == few.settings.training
    assert children(few, run) == ["trial-1"]
