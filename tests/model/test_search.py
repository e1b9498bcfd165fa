"""A search writes its trials below the run of its training, and goes on with those of a run that was killed."""

import math
from pathlib import Path

import pytest

from car_damage.adapters.mlflow.archive import MlflowArchive
from car_damage.adapters.mlflow.client import client
from car_damage.adapters.mlflow.tracking import MlflowTracking
from car_damage.adapters.mlflow.trials import PARENT_TAG
from car_damage.pipeline import TrainRequest
from car_damage.platform import Target
from car_damage.ports import Platform, Trial
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
    assert children(world, first) == ["trial-1", "trial-2", "trial-3"]
    second = tracking.start("run", {"training_key": KEY})
    found = search.searched(REQUEST, second, world, loss, silent)
    assert (children(world, first), children(world, second)) == ([], [f"trial-{number}" for number in range(1, 6)])
    assert len(asked) == 5
    assert found.settings.training == asked[-1]
    assert asked[0] == world.settings.training
    [summary] = [run for run in tracking.recent() if run.run_id == second]
    MlflowArchive(world.settings).remove([summary])
    assert children(world, second) == []


@pytest.mark.parametrize("dies", [True, False])
def test_a_trial_that_fails_or_ends_its_process_is_the_worst_and_not_proposed_again(
    world: World, dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Training] = []
    end = MlflowTracking.end_trial

    def loss(training: Training) -> float:
        asked.append(training)
        world.clock.sleep(30)
        if len(asked) in {2, 3}:
            raise MemoryError
        return float(len(asked))

    def ending(self: MlflowTracking, child: str, number: int, trial: Trial) -> None:
        if dies and len(asked) in {2, 3}:
            raise SystemExit  # the process is gone before it can write how the trial ended
        end(self, child, number, trial)

    monkeypatch.setattr(MlflowTracking, "end_trial", ending)
    tracking = MlflowTracking(world.settings)
    for _ in range(2):
        with pytest.raises((MemoryError, SystemExit)):
            search.searched(REQUEST, tracking.start("run", {"training_key": KEY}), world, loss, silent)
    last = tracking.start("run", {"training_key": KEY})
    found = search.searched(REQUEST, last, world, loss, silent)
    assert len({training.model_dump_json() for training in asked}) == len(asked)
    trials = tracking.trials(KEY, last)
    assert [trial.loss for trial in trials[:3]] == [1.0, math.inf, math.inf]
    assert [trial.seconds for trial in trials[:3]] == ([30, 100, 100] if dies else [30, 30, 30])
    assert sum(trial.seconds for trial in trials) >= 300 > sum(trial.seconds for trial in trials[:-1])
    assert found.settings.training == asked[0]


def test_a_search_ends_where_all_settings_were_tried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST", 12)
    few = World(world.settings.model_copy(update={"training": Training(network="transfer", components=16, views=(), search_minutes=1)}))
    monkeypatch.setattr(search, "proposal", lambda *_: {"head": "ordinal"})
    run = MlflowTracking(world.settings).start("run", {"training_key": KEY})
    assert search.searched(REQUEST, run, few, lambda _: 1.0, silent).settings.training == few.settings.training
    assert children(few, run) == ["trial-1"]
