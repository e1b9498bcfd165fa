"""Trains a network on decoded photos: the same seed and the same photos give the same model on the same machine.

Photos come from the disk through tf.data, which shuffles row numbers, not photos, so memory holds a few
batches at any time and the disk's cache does the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from car_damage.model import networks
from car_damage.model.photos import Photos
from car_damage.model.pixel_cache import PixelCache
from car_damage.settings import Training

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from car_damage.stage import Progress

PREDICT_BATCH = 64
"""Photos a step where nothing is learnt."""


@dataclass(frozen=True)
class TrainingResult:
    """A network with its best weights, and how it got them."""

    network: "keras.Model"
    """Without augmentation: what is saved."""
    history: Mapping[str, Sequence[float]]
    """loss, accuracy, val_loss, val_accuracy -> one value an epoch; those of training under augmentation and dropout."""
    best_epoch: int
    """From 1: the epoch whose weights are kept."""

    @property
    def epochs(self) -> int:
        """Passes over the training photos that were made."""
        return len(self.history["loss"])


def train(train: Photos, validation: Photos, classes: int, settings: Training, progress: "Progress") -> TrainingResult:
    """Train until the validation loss has not improved for `settings.patience` epochs, and keep the best weights.

    Args:
        train: the photos to learn from.
        validation: the photos that say when to stop.
        classes: how many there are.
        settings: network, epochs, patience, batch size, learning rate, augmentation, seed.
        progress: told about the step `epoch` after each one.
    """
    networks.import_quietly()
    import keras

    keras.utils.set_random_seed(settings.seed)
    network = networks.build(settings.network, classes)
    learner = networks.augmented(network, settings.seed) if settings.augment else network
    steps = -(-len(train) // settings.batch_size)
    learner.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps * settings.epochs, alpha=0.05)
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # measured: compiling takes seconds, and the steps get no quicker
    )
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=settings.patience, restore_best_weights=True)
    with _photos_errors(train, validation):
        fitted = learner.fit(
            batches(train, settings.batch_size, settings.seed),
            epochs=settings.epochs,
            validation_data=batches(validation, PREDICT_BATCH),
            class_weight=class_weights(train.labels, classes),
            callbacks=[stopping, _epoch_progress(progress, settings.epochs)],
            shuffle=False,  # the batches are
            verbose=0,
        )
    history = {name: tuple(float(value) for value in values) for name, values in fitted.history.items()}
    return TrainingResult(network, history, int(np.argmin(history["val_loss"])) + 1)


def predict(network: "keras.Model", photos: Photos) -> npt.NDArray[np.float32]:
    """(n, classes) float32 probabilities, row by row as the photos are."""
    networks.import_quietly()
    # On the arrays themselves, a batch at a time: `predict` would copy the whole set into memory.
    answers = [np.asarray(network(photos.pixels[at : at + PREDICT_BATCH], training=False)) for at in range(0, len(photos), PREDICT_BATCH)]
    return np.concatenate(answers).astype(np.float32) if answers else np.zeros((0, network.output_shape[-1]), np.float32)


def class_weights(labels: npt.NDArray[np.int64], classes: int) -> dict[int, float]:
    """Weight of a photo's loss by its class, n / (classes there are x photos of the class): every class counts the same.

    A class without a photo weighs 1, which nothing is multiplied by.
    """
    counts = np.bincount(labels, minlength=classes)
    return {number: len(labels) / (np.count_nonzero(counts) * count) if count else 1.0 for number, count in enumerate(counts.tolist())}


def batches(photos: Photos, size: int, shuffle_seed: int | None = None) -> "tf.data.Dataset":
    """Batches of ((b, 224, 224, 3) uint8, (b,) int64), with bounded memory.

    Args:
        photos: where they come from.
        size: photos in a batch; the last may be smaller.
        shuffle_seed: None keeps the order of the rows; otherwise each pass has another order, which follows from it.
    """
    import tensorflow as tf

    def gather(rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return photos.pixels[rows], photos.labels[rows]

    def shaped(rows: Any) -> tuple[Any, Any]:
        pixels, labels = tf.numpy_function(gather, [rows], (tf.uint8, tf.int64), stateful=False)
        return tf.ensure_shape(pixels, (None, *photos.pixels.shape[1:])), tf.ensure_shape(labels, (None,))

    rows = tf.data.Dataset.range(len(photos))
    if shuffle_seed is not None:
        rows = rows.shuffle(len(photos), seed=shuffle_seed, reshuffle_each_iteration=True)
    return rows.batch(size).map(shaped).prefetch(2)


@contextmanager
def _photos_errors(*some: Photos) -> Iterator[None]:
    """What became of a photo while TensorFlow asked for it: its own error instead of TensorFlow's."""
    try:
        yield
    except Exception as error:
        for photos in some:
            if isinstance(photos.pixels, PixelCache) and photos.pixels.failures:
                raise photos.pixels.failures[0] from error
        raise


def _epoch_progress(progress: "Progress", epochs: int) -> "keras.callbacks.Callback":
    import keras

    class EpochProgress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
            now = logs or {}
            message = (
                f"loss {now['loss']:.3f}, accuracy {now['accuracy']:.2f}, "
                f"validation loss {now['val_loss']:.3f}, accuracy {now['val_accuracy']:.2f}"
            )
            progress("epoch", epoch + 1, epochs, message)

    return EpochProgress()
