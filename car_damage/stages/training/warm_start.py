"""The weights of the champion, from which a training starts with `training.warm_start = "champion"`.

Who starts from weights has learned from their photos, too. So a champion is no start if one of its photos is forgotten, and a training that
starts from it has its photos in its own list: there the stage forget finds them, and names the version.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.forgotten import FORGOTTEN, marked, photos_of
from car_damage.data.photos.trained import with_inherited
from car_damage.errors import Terminal
from car_damage.machine import Scratch
from car_damage.model.networks import cnn, heads, startup
from car_damage.model.networks.backbone import Backbone
from car_damage.model.networks.training import TrainingResult
from car_damage.model.networks.tuning import cutting
from car_damage.model.run_files import KERAS_FILE, TRAINED_FILE, read_trained
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
    photos: pa.Table | None = None
    """Those that the champion has learned from: see `car_damage.data.photos.trained`. None without a network."""

    def after(self, trained: TrainingResult) -> "Start":
        """What the training has started from in fact: a fine-tuning that was not kept leaves nothing of the champion."""
        if self.network is None or trained.metrics.get("fine_tuned", 1.0):
            return self
        return Start(said=f"not {self.said}: fine-tuning was not kept")

    def learned(self, photos: pa.Table) -> pa.Table:
        """The list of a training on these photos."""
        return photos if self.photos is None else with_inherited(photos, self.photos)


def start_of(platform: Platform, seeing: Backbone | None) -> Start:
    """The champion's network, if it has the shape of the one that is to be trained, and the same layers that stay as they are.

    Args:
        platform: has the champion, its run, and the settings that the training will have.
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
        photos, network = _photos(platform, champion), _network(platform, champion)
    except Terminal as error:
        return Start(said=f"not {name}: its network or its list of photos cannot be had: {error}"[:TAG_LIMIT])
    if _has_forgotten(platform, champion, photos):
        return Start(said=f"not {name}: it has learned from a photo that is forgotten")
    if not _fits(network, settings, seeing, classes):
        return Start(said=f"not {name}: its network is another one")
    return Start(network, name, photos)


def _photos(platform: Platform, champion: ModelVersion) -> pa.Table:
    try:
        return read_trained(platform.tracking.fetch(champion.run_id, TRAINED_FILE))
    except ValueError as error:
        raise Terminal(f"{TRAINED_FILE} cannot be read: {error}") from error


def _has_forgotten(platform: Platform, champion: ModelVersion, photos: pa.Table) -> bool:
    """Whether a photo that the champion has learned from is to be forgotten, or was: then it has left the list, and its row tells."""
    rows, _ = platform.tables.read(platform.settings.tables.forgotten, FORGOTTEN.names)
    traces = (trace for photo in photos_of(rows) for trace in photo.found)
    if any(trace.run == champion.run_id and trace.what == TRAINED_FILE for trace in traces):
        return True
    return bool(pc.any(marked(photos["sha256"].cast(pa.string()), rows["mark"].to_pylist())).as_py())


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
