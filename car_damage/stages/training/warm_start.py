"""The weights of the champion, from which a training starts with `training.warm_start = "champion"`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from car_damage.errors import Terminal
from car_damage.machine import Scratch
from car_damage.model.networks import cnn, heads, startup
from car_damage.model.networks.backbone import Backbone
from car_damage.model.networks.tuning import cutting
from car_damage.model.run_files import KERAS_FILE
from car_damage.ports import TAG_LIMIT, ModelVersion, Platform
from car_damage.settings import Training

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Start:
    """What a training starts from."""

    network: "keras.Model | None" = None
    """The champion's; None: the training starts as usual."""
    said: str = ""
    """The champion's version and run, or why it is not the start; empty where no setting asks for it."""


def start_of(platform: Platform, seeing: Backbone | None) -> Start:
    """The champion's network, if it has the shape of the one that is to be trained, and the same layers that stay as they are.

    Args:
        platform: has the champion, and its run.
        seeing: the backbone; None for the network cnn.

    Raises Transient errors of the registry and of MLflow.
    """
    settings, classes = platform.settings.training, len(platform.settings.labels.classes)
    if settings.warm_start == "off" or (seeing is not None and settings.fine_tune == "off"):
        return Start()
    champion = platform.registry.champion()
    if champion is None:
        return Start(said="no version: there is no champion")
    name = f"version {champion.version}, run {champion.run_id}"
    try:
        network = _network(platform, champion)
    except Terminal as error:
        return Start(said=f"not {name}: its network cannot be had: {error}"[:TAG_LIMIT])
    if not _fits(network, settings, seeing, classes):
        return Start(said=f"not {name}: its network is another one")
    return Start(network, name)


def _network(platform: Platform, champion: ModelVersion) -> "keras.Model":
    startup.import_quietly()
    import keras

    with Scratch("champion") as folder:
        file = folder / Path(KERAS_FILE).name
        file.write_bytes(platform.tracking.fetch(champion.run_id, KERAS_FILE))
        try:
            return keras.saving.load_model(file, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises errors of every kind for a file that it does not know
            raise Terminal(f"{type(error).__name__}: {error}") from error


def _fits(champion: "keras.Model", settings: Training, seeing: Backbone | None, classes: int) -> bool:
    import keras

    if seeing is None:
        return _shapes(cnn.build(settings.network, classes)) == _shapes(champion)
    outputs = classes if settings.head == "softmax" else classes - 1
    head = heads.Head(np.zeros((seeing.length, outputs), np.float32), np.zeros(outputs, np.float32), settings.head)
    wanted = head.on(seeing.network)
    if _shapes(wanted) != _shapes(champion):
        return False
    learns = {id(variable) for variable in cutting.cut(seeing.network, settings.fine_tune_from).upper.weights}
    stays = {id(variable) for variable in seeing.network.weights} - learns
    pairs = zip(wanted.weights, champion.get_weights(), strict=True)
    return all(np.array_equal(keras.ops.convert_to_numpy(variable), value) for variable, value in pairs if id(variable) in stays)


def _shapes(network: "keras.Model") -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in network.weights]
