"""Searches for settings of a training, as long as `training.search_minutes` says. A part of the stage train.

Each trial is a child run of the training's run in MLflow, written before it begins, and again when it ends. A search that was killed
goes on with the trials of its training key: their time counts, and their runs move below the new run. A trial that failed or did not end
counts as the worst: a proposal follows from the trials before it, so otherwise the same one would be made again, and end the same way.
"""

import math
from collections.abc import Callable
from contextlib import suppress

from car_damage.errors import CarDamageError
from car_damage.model.networks.search import best, proposal
from car_damage.pipeline import TrainRequest
from car_damage.ports import Platform, Trial
from car_damage.settings import Training
from car_damage.stage import Progress
from car_damage.stages.training.network import with_training

MOST = 200
"""Trials of a search, at most: each is a run in MLflow."""
LIVES = 3
"""Trials that end their process, before a search gives up. How long one took nobody knows, so it counts as this part of the time."""


def searched(request: TrainRequest, run_id: str, platform: Platform, loss_of: Callable[[Training], float], progress: Progress) -> Platform:
    """The platform with the best settings of training that were found.

    Args:
        request: its training key is the search's name.
        run_id: of the training.
        platform: has the settings.
        loss_of: trains with some settings; returns the log loss of photos that it did not learn from.
        progress: called before each trial, for the step `search`, in seconds.
    """
    training, clock = platform.settings.training, platform.clock
    done, budget = platform.tracking.trials(request.training_key, run_id), training.search_minutes * 60
    while (spent := sum(trial.seconds for trial in done)) < budget and len(done) < MOST:
        found = f"lowest loss so far {min(trial.loss for trial in done):.4f}" if done else "with the settings as they are"
        progress("search", int(spent), budget, f"trial {len(done) + 1}, {found}")
        changes = proposal(training, done)
        if (same := next((trial for trial in done if trial.changes == changes), None)) is not None:
            done.append(Trial(changes, same.loss, 0.0))  # it counts as one of MOST
            continue
        began, number = clock.monotonic(), len(done) + 1
        child = platform.tracking.begin_trial(request.training_key, run_id, number, Trial(changes, math.inf, budget / LIVES))
        try:
            loss = loss_of(Trial(changes, 0.0, 0.0).of(training))
        except BaseException:
            with suppress(CarDamageError):  # what was written before it began says the same
                platform.tracking.end_trial(child, number, Trial(changes, math.inf, clock.monotonic() - began))
            raise
        done.append(Trial(changes, loss if math.isfinite(loss) else math.inf, clock.monotonic() - began))
        platform.tracking.end_trial(child, number, done[-1])
    chosen = best(training, done)
    progress("search", budget, budget, f"{len(done)} trials: {', '.join(f'{name} {getattr(chosen, name)}' for name in done[0].changes)}")
    return with_training(platform, chosen)
