"""Settles which network a training has, where the settings leave that open with `auto`. A part of the stage train.

Whether weights can be had is known only to the machine that trains, which may be a job's, and only at the moment when it asks. So it asks
only when there is something to train: a finished training with the network cnn counts until photos or settings change. A champion that
sees through a backbone is a proof that its weights can be had. If they cannot be had tonight, that is an outage like any other: a cnn in
its place would only cost a training and lose against it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from car_damage.errors import Unavailable, WeightsMissing
from car_damage.pipeline import TrainRequest
from car_damage.ports import FEATURES_TAG, Platform
from car_damage.settings import Training
from car_damage.stage import Progress

if TYPE_CHECKING:
    from car_damage.model.networks.backbone import Backbone


@dataclass(frozen=True)
class NetworkChoice:
    """What is trained, and by which settings."""

    request: TrainRequest
    """With the key of this network, and no other."""
    platform: Platform
    """Its settings name this network."""
    backbone: "Backbone | None"
    """None for the network cnn."""
    params: dict[str, str]
    """What the run says of the choice."""


def settle(request: TrainRequest, platform: Platform, load: Callable[[Training], "Backbone"], progress: Progress) -> NetworkChoice:
    """Load the backbone, if the settings name one.

    Raises:
        WeightsMissing: the network transfer lacks its weights.
        Unavailable: the network auto lacks them, and the champion has them.
    """
    training = platform.settings.training
    if training.network == "cnn":
        return NetworkChoice(request, platform, None, {})
    if training.network == "transfer":
        return NetworkChoice(request, platform, load(training), {})
    seeing, why = _either(request, platform, load)
    taken = training.model_copy(update={"network": "transfer" if seeing else "cnn"})
    progress("network", 1, 1, f"{taken.network}, because {why}")
    request = replace(request, training_key=request.training_key if seeing else request.fallback_key, fallback_key="")
    params = {"network_asked": "auto", "network_why": why}
    return NetworkChoice(request, with_training(platform, taken), seeing, params)


def _either(request: TrainRequest, platform: Platform, load: Callable[[Training], "Backbone"]) -> tuple["Backbone | None", str]:
    """The backbone, or None, and why."""
    training = platform.settings.training

    def loaded() -> "Backbone":
        if request.training_key == request.fallback_key:
            raise WeightsMissing(f"{' or '.join(training.files.values())} was not there when the run began")
        return load(training.model_copy(update={"network": "transfer"}))

    try:
        return loaded(), f"the weights of {training.backbone} can be had"
    except WeightsMissing as error:
        if champion_sees(platform):
            raise Unavailable(f"the live version sees through a backbone, and tonight {error}") from error
        return None, str(error)


def told(platform: Platform, check: Callable[[Training], str]) -> str:
    """What a training will find, for a person, before it begins.

    Args:
        platform: has the settings and the champion.
        check: what it will find with these settings: see `backbone.check`.

    Raises what `settle` and `check` raise.
    """
    training = platform.settings.training
    if training.network != "auto":
        return check(training)
    try:
        return f"auto takes transfer: {check(training.model_copy(update={'network': 'transfer'}))}"
    except WeightsMissing as error:
        if champion_sees(platform):
            raise Unavailable(f"the live version sees through a backbone, and now {error}") from error
        return f"auto takes cnn, because {error}"


def champion_sees(platform: Platform) -> bool:
    """Whether the champion's network has a backbone."""
    champion = platform.registry.champion()
    runs = platform.tracking.recent() if champion else []
    return any(run.run_id == champion.run_id and FEATURES_TAG in run.tags for run in runs if champion)


class _WithTraining:
    """A platform with other settings of training."""

    def __init__(self, platform: Platform, training: Training) -> None:
        self._platform = platform
        self.settings = platform.settings.model_copy(update={"training": training})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._platform, name)


def with_training(platform: Platform, training: Training) -> Platform:
    """The platform with other settings of training."""
    return cast("Platform", _WithTraining(platform, training))
