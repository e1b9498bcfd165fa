"""A search proposes settings from the trials before."""

import math

import pytest

from car_damage.model.networks.search import best, proposal
from car_damage.ports import Trial
from car_damage.settings import Training

TRANSFER = Training(network="transfer", views=("mirrored", "zoomed"))


def loss_of(training: Training) -> float:
    """Lowest with the head softmax, 64 components and one of the two views."""
    return abs(math.log(training.components / 64)) + (training.head != "softmax") + (training.views != ("zoomed",))


def after(trials: int) -> list[Trial]:
    done: list[Trial] = []
    for _ in range(trials):
        changes = proposal(TRANSFER, done)
        done.append(Trial(changes, loss_of(Trial(changes, 0, 0).of(TRANSFER)), 1))
    return done


def test_the_first_trial_is_what_was_asked_for_and_later_ones_come_near_the_best() -> None:
    done = after(40)
    assert done[0].of(TRANSFER) == TRANSFER
    assert best(TRANSFER, done).head == "softmax"
    assert best(TRANSFER, done).views == ("zoomed",)
    assert min(trial.loss for trial in done[20:]) < 0.3 < min(trial.loss for trial in done[:5])


def test_a_proposal_depends_on_the_trials_alone() -> None:
    done = after(6)
    assert proposal(TRANSFER, done) == proposal(TRANSFER, list(done)) != proposal(TRANSFER, done[:5])


@pytest.mark.parametrize("training", [Training(learning_rate=0.5, batch_size=1), Training(augment=False)])
def test_a_setting_outside_the_usual_range_is_tried_too_and_what_is_not_read_is_not(training: Training) -> None:
    done = [Trial(proposal(training, []), 1.0, 1)]
    assert done[0].of(training) == training
    again = proposal(training, done)
    assert set(again) == {"learning_rate", "batch_size"} | ({"augmentation"} if training.augment else set())
    assert Trial(again, 0, 0).of(training)


def test_without_a_loss_everything_stays_as_it_was_asked_for() -> None:
    assert best(TRANSFER, []) == best(TRANSFER, [Trial({"head": "softmax"}, math.inf, 1)]) == TRANSFER
    assert best(TRANSFER, [Trial({"head": "softmax"}, 2.0, 1), Trial({"head": "ordinal"}, 2.0, 1)]).head == "softmax"
