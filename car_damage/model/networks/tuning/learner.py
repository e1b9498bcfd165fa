"""The upper part of a backbone with a head on it, as it learns."""

from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from car_damage.model.networks import heads, precision
from car_damage.model.networks.tuning.maps import Maps, Rows
from car_damage.settings import Training

if TYPE_CHECKING:
    import keras

BATCH = 32
"""Photos of a training step."""


class Learner:
    """Trains the upper part in place, and can begin again any number of times.

    As a context manager: in its block, and only there, the upper part's layers are trainable, and compute with the precision of the
    settings.
    """

    def __init__(self, upper: "keras.Model", features: heads.Floats, head: heads.Head, settings: Training) -> None:
        """A learner.

        Args:
            upper: see `car_damage.model.networks.tuning.cutting.Cut`.
            features: (n, views, d) of the training photos, by which the head's inputs are standardised.
            head: any of the kind that is to be trained.
            settings: of training.
        """
        self.upper, self._settings, self._kind = upper, settings, head.kind
        rows = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
        deviation = rows.std(axis=0)
        self._mean = rows.mean(axis=0)
        # One step of Adam changes each number by the rate. Inputs that are r times as large change the outputs as r times the rate would.
        self._scale = np.where(deviation > 0, deviation, 1.0) * settings.fine_tune_rate / settings.fine_tune_head_rate
        self._model, self._dense = self._built(len(head.bias))
        self._computing = precision.computing(self._model, precision.here(settings.precision))
        self._first = upper.get_weights()

    def __enter__(self) -> Self:
        import keras

        for layer in _flat(self.upper):  # what is set for a model does not reach layers that it shares with another one
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        self._computing.__enter__()
        loss = keras.losses.CategoricalCrossentropy() if self._kind == "softmax" else keras.losses.BinaryCrossentropy()
        self._model.compile(keras.optimizers.Adam(self._settings.fine_tune_rate), loss, jit_compile=False)
        self._model.optimizer.build(self._model.trainable_variables)
        self._fresh = [keras.ops.convert_to_numpy(variable) for variable in self._model.optimizer.variables]
        return self

    def __exit__(self, *error: object) -> None:
        self._computing.__exit__(None, None, None)
        for layer in _flat(self.upper):
            layer.trainable = False

    @property
    def head(self) -> heads.Head:
        """The head as it is now, on features that are not standardised."""
        kernel, bias = (values.astype(np.float64) for values in self._dense.get_weights())
        kernel = kernel / self._scale[:, None]
        return heads.Head(kernel.astype(np.float32), (bias - self._mean @ kernel).astype(np.float32), self._kind)

    def restart(self, head: heads.Head) -> None:
        """Begin again, with the upper part as it was at first, this head, and an optimizer that has seen nothing."""
        self.upper.set_weights(self._first)
        for variable, value in zip(self._model.optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        self.take(head)

    def take(self, head: heads.Head) -> None:
        """Go on with this head."""
        self._dense.set_weights([head.kernel * self._scale[:, None], head.bias + self._mean @ head.kernel])

    def epoch(self, number: int, maps: Maps, labels: npt.NDArray[np.int64], rows: Rows, random: np.random.Generator) -> None:
        """Learn once from each of these photos, in a random view.

        Args:
            number: of the epoch, from 0: the rate falls with it from `fine_tune_rate` to 0, as half a cosine.
            maps: of all photos.
            labels: (n,) of all photos.
            rows: the photos to learn from.
            random: draws the order, the views and the mixtures.
        """
        settings = self._settings
        self._model.optimizer.learning_rate = settings.fine_tune_rate * 0.5 * (1 + np.cos(np.pi * number / settings.fine_tune_epochs))
        targets = np.eye(self._classes)[labels] * (1 - settings.fine_tune_smoothing) + settings.fine_tune_smoothing / self._classes
        weights = np.zeros(len(labels))
        weights[rows] = heads.balanced(labels[rows], self._classes)
        order = random.permutation(rows)
        for at in range(0, len(order), BATCH):
            chosen = order[at : at + BATCH]
            given = maps.of(chosen, random.integers(0, maps.views, len(chosen)))
            self._step([*given, targets[chosen], weights[chosen]], random)

    def _step(self, batch: list[npt.NDArray[np.floating]], random: np.random.Generator) -> None:
        """Learn from a batch: the inputs, then targets (m, classes) and weights (m,)."""
        if most := self._settings.fine_tune_mixup:
            share, other = random.beta(most, most), random.permutation(len(batch[-1]))
            batch = [share * part + (1 - share) * part[other] for part in batch]
        *given, targets, weights = batch
        self._model.train_on_batch([np.asarray(part, np.float32) for part in given], self._outputs(targets), sample_weight=weights)

    def answers(self, maps: Maps, rows: Rows) -> npt.NDArray[np.float64]:
        """(m, classes): probabilities of these photos, as the served model gets them."""
        parts = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
        features = [self.upper.predict_on_batch(maps.of(part)) for part in parts]
        return self.head.probabilities(np.concatenate(features)) if parts else np.zeros((0, self._classes))

    @property
    def _classes(self) -> int:
        return int(self._dense.units) + (self._kind == "ordinal")

    def _outputs(self, targets: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """What the head shall say: one share a class; or for each class but the first the share of what is that severe."""
        return targets if self._kind == "softmax" else np.cumsum(targets[:, ::-1], axis=1)[:, ::-1][:, 1:]

    def _built(self, outputs: int) -> "tuple[keras.Model, keras.layers.Dense]":
        import keras

        features = self.upper(self.upper.inputs, training=False)
        standardised = keras.layers.Rescaling((1 / self._scale).tolist(), (-self._mean / self._scale).tolist())(features)
        dense = keras.layers.Dense(outputs, activation="softmax" if self._kind == "softmax" else "sigmoid")
        return keras.Model(self.upper.inputs, dense(standardised)), dense


def _flat(model: "keras.Model") -> "list[keras.layers.Layer]":
    import keras

    return [one for layer in model.layers for one in (_flat(layer) if isinstance(layer, keras.Model) else [layer])]
