"""Proposes settings for the next trial of a search, from the trials before it: Optuna's tree-structured Parzen estimator.

Bergstra et al., Algorithms for hyper-parameter optimization, 2011. A proposal depends only on the settings and the trials that are given,
so a search goes on wherever its trials are known.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from car_damage.ports import Trial
from car_damage.settings import Training

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_VIEW = "with_"
"""Beginning of the parameter that tells whether the head learns from a view."""


def proposal(training: Training, done: Sequence[Trial]) -> dict[str, Any]:
    """The changes of the next trial. Those of the first one are the settings as they are, so a search never ends worse than it began."""
    import optuna
    from optuna.samplers import TPESampler

    space = _space(training)
    if not done:
        return _changes(training, {name: _asked(training, name) for name in space})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Another seed for each trial: with the same one, a search that is resumed would begin with the same random numbers.
    study = optuna.create_study(sampler=TPESampler(seed=training.seed + len(done)))
    for trial in done:
        of = trial.of(training)
        params = {name: _asked(of, name) for name in space}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=trial.loss))
    return _changes(training, study.ask(space).params)


def _space(training: Training) -> "dict[str, BaseDistribution]":
    """Parameter -> its range, which includes the value that the settings have."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def whole(name: str, low: int, high: int) -> "dict[str, BaseDistribution]":
        asked = getattr(training, name)
        return {name: IntDistribution(min(low, asked), max(high, asked), log=True)}

    if training.network == "cnn":
        rate = training.learning_rate
        found = whole("batch_size", 4, 64) | {"learning_rate": FloatDistribution(min(1e-4, rate), max(1e-2, rate), log=True)}
        return found | ({"augmentation": CategoricalDistribution(("plain", "wide"))} if training.augment else {})
    views = training.views if training.augment else ()
    found = {"head": CategoricalDistribution(("softmax", "ordinal")), **whole("components", 16, 512)}
    return found | {_VIEW + view: CategoricalDistribution((True, False)) for view in views}


def _asked(training: Training, parameter: str) -> Any:
    if parameter.startswith(_VIEW):
        return parameter.removeprefix(_VIEW) in training.views
    return getattr(training, parameter)


def _changes(training: Training, params: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that these parameters mean."""
    found = {name: value for name, value in params.items() if not name.startswith(_VIEW)}
    if any(name.startswith(_VIEW) for name in params):
        found["views"] = [view for view in training.views if params[_VIEW + view]]
    return found


def best(training: Training, done: Sequence[Trial]) -> Training:
    """The settings of the trial with the lowest loss, the earliest of equal ones; those that were asked for where no trial has one."""
    found = min(done, key=lambda trial: trial.loss, default=None)
    return training if found is None or math.isinf(found.loss) else found.of(training)
