"""Trains a network on decoded photos: the same seed and the same photos give the same model on the same machine.

tf.data reads the photos from disk and shuffles row numbers instead of photos, so only a few batches are in memory at a
time, and the operating system caches the rest.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from car_damage.model.networks import cnn, precision, startup
from car_damage.model.networks.augmentation import wide
from car_damage.model.pixels.photos import Photos
from car_damage.model.pixels.pixel_cache import PixelCache
from car_damage.model.report.parts import Parts
from car_damage.settings import Training
from car_damage.stage import Progress, silent

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from car_damage.model.onnx_network import OnnxNetwork

Change = Callable[[npt.NDArray[np.uint8], np.random.Generator], npt.NDArray[np.uint8]]
"""(n, 224, 224, 3) uint8 to the same, at random."""

PREDICT_BATCH = 64
"""Photos in a batch of validation or prediction."""


@dataclass(frozen=True)
class KnownAnswers:
    """What a network answers to photos that its backbone has seen before: the answers of `TrainingResult.network` need no pixels."""

    onnx: bytes | None
    """The whole network in the format ONNX, whose backbone computed the features. None: it cannot be exported."""
    why_keras: str
    """Why it cannot; empty if it can."""
    probabilities: Mapping[str, npt.NDArray[np.float32]]
    """Split -> (n, classes), in the order of its photos."""
    by_keras: npt.NDArray[np.float32] | None
    """(n, classes) for the test photos, from features that Keras has computed. None where Keras has computed all of them."""


@dataclass(frozen=True)
class TrainingResult:
    """A trained network, and the history of its training."""

    network: "keras.Model"
    """The network to save, without augmentation."""
    history: Mapping[str, Sequence[float]]
    """loss, accuracy, val_loss, val_accuracy -> one value per epoch. loss and accuracy include augmentation and dropout. Empty for a
    network that is not trained in epochs."""
    best_epoch: int
    """The epoch whose weights are kept, counted from 1; 0 without epochs."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """More figures of the training."""
    out_of_fold: npt.NDArray[np.float64] | None = None
    """(n, classes): each training photo's probabilities from a network that has not learned from it; NaN for a photo that could not be
    read. None: there was no cross-validation."""
    parts: Parts = field(default_factory=Parts)
    """Trainings with a part of the photos, if there were any."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """What the settings left open, and the training has decided: parameters of its run."""
    answered: KnownAnswers | None = None
    """The network's answers to the photos of all splits; None for a network that has to look at them."""

    @property
    def epochs(self) -> int:
        """The number of epochs trained."""
        return len(self.history.get("loss", ()))


def train(  # noqa: PLR0917 - of what, and how
    train: Photos,
    validation: Photos,
    classes: int,
    settings: Training,
    progress: Progress,
    start: "keras.Model | None" = None,
) -> TrainingResult:
    """Train until the validation loss has not improved for `settings.patience` epochs, and keep the best weights.

    `progress` is called after each epoch, with the step `epoch`. The training starts with the weights of `start`, a network of the same
    shape, if there is one.
    """
    startup.import_quietly()
    import keras

    startup.repeat(settings.seed)
    network = cnn.build(settings.network, classes)
    if start is not None:
        network.set_weights(start.get_weights())
    plain = settings.augment and settings.augmentation == "plain"
    learner = cnn.augmented(network, settings.seed) if plain else network
    change = wide if settings.augment and not plain else None
    steps = -(-len(train) // settings.batch_size)
    with precision.computing(learner, precision.here(settings.precision)), _photos_errors(train, validation):
        learner.compile(
            optimizer=keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps * settings.epochs, alpha=0.05)
            ),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            jit_compile=False,  # measured: compiling takes seconds, and the steps are not faster
        )
        # Otherwise `fit` traces its step twice, because the first time makes the optimizer's variables, and keeps a graph of each.
        learner.optimizer.build(learner.trainable_variables)
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=settings.patience, restore_best_weights=True)
        fitted = learner.fit(
            batches(train, settings.batch_size, settings.seed, change),
            epochs=settings.epochs,
            validation_data=batches(validation, PREDICT_BATCH),
            class_weight=class_weights(train.labels, classes),
            callbacks=[stopping, _epoch_progress(progress, settings.epochs)],
            shuffle=False,  # `batches` shuffles
            verbose=0,
        )
    history = {name: tuple(float(value) for value in values) for name, values in fitted.history.items()}
    return TrainingResult(network, history, int(np.argmin(history["val_loss"])) + 1)


def loss_of(learned: Photos, asked: Photos, classes: int, settings: Training) -> float:
    """What a search asks: the lowest validation loss of a training with these settings. The arguments are the first ones of `train`."""
    return min(train(learned, asked, classes, settings, silent).history["val_loss"])


def predict(network: "keras.Model | OnnxNetwork", photos: Photos) -> npt.NDArray[np.float32]:
    """(n, classes) float32 probabilities, in the order of the photos; NaN for a photo that cannot be read any more."""
    startup.import_quietly()
    probabilities = np.full((len(photos), network.output_shape[-1]), np.nan, np.float32)
    # One batch of the array at a time, because Keras' `predict` would copy all photos into memory.
    for at in range(0, len(photos), PREDICT_BATCH):
        pixels, there = photos.read(slice(at, at + PREDICT_BATCH))
        if len(pixels):
            probabilities[at + np.flatnonzero(there)] = np.asarray(network(pixels, training=False))
    return probabilities


def class_weights(labels: npt.NDArray[np.int64], classes: int) -> dict[int, float]:
    """Class -> weight of a photo's loss: n / (classes with photos x photos of the class), so that all classes count the same.

    A class without photos has the weight 1, which has no effect.
    """
    counts = np.bincount(labels, minlength=classes)
    return {number: len(labels) / (np.count_nonzero(counts) * count) if count else 1.0 for number, count in enumerate(counts.tolist())}


def batches(photos: Photos, size: int, shuffle_seed: int | None = None, change: Change | None = None) -> "tf.data.Dataset":
    """Batches of ((b, 224, 224, 3) uint8, (b,) int64), with bounded memory. A photo that cannot be read any more is left out of its batch.

    Args:
        photos: the photos and their labels.
        size: photos in a batch; the last batch may be smaller.
        shuffle_seed: None: the order of the rows. Otherwise each epoch has another order, which depends only on this seed.
        change: changes the photos of each batch, at random by this seed.
    """
    import tensorflow as tf

    known = weakref.ref(photos)

    def gather(rows: npt.NDArray[np.int64], seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """TensorFlow keeps this function for as long as the process lives, and it must not keep the photos."""
        of = known()
        assert of is not None  # noqa: S101 - the batches hold them
        pixels, there = of.read(rows)
        if there.any():
            return change(pixels, np.random.default_rng(seed)) if change else pixels, of.labels[rows][there]
        return _instead(of)

    def shaped(rows: Any, seed: Any = 0) -> tuple[Any, Any]:
        pixels, labels = tf.numpy_function(gather, [rows, seed], (tf.uint8, tf.int64), stateful=False)
        return tf.ensure_shape(pixels, (None, *photos.pixels.shape[1:])), tf.ensure_shape(labels, (None,))

    rows = tf.data.Dataset.range(len(photos))
    if shuffle_seed is not None:
        rows = rows.shuffle(len(photos), seed=shuffle_seed, reshuffle_each_iteration=True)
    rows = rows.batch(size)
    if change is not None:  # a seed for each batch: TensorFlow may make several batches at a time, in any order
        rows = tf.data.Dataset.zip((rows, tf.data.Dataset.random(shuffle_seed, rerandomize_each_iteration=True)))
    as_it_is = tf.autograph.experimental.do_not_convert(shaped)  # converted it would leave a file in the temporary folder
    made = rows.map(as_it_is).prefetch(2)
    made.photos = photos
    return made


def _instead(photos: Photos) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """A photo in place of a batch of which none can be read: a step needs one, and every epoch the same number of steps."""
    for row in range(len(photos)):
        pixels, there = photos.read(slice(row, row + 1))
        if there.any():
            return pixels, photos.labels[row : row + 1]
    return photos.pixels[:1], photos.labels[:1]  # raises the photo's error


@contextmanager
def _photos_errors(*sets: Photos) -> Iterator[None]:
    """Raise the error of a photo that failed to load, instead of TensorFlow's error about it."""
    try:
        yield
    except Exception as error:
        for photos in sets:
            if isinstance(photos.pixels, PixelCache) and photos.pixels.failures:
                raise photos.pixels.failures[0] from error
        raise


def _epoch_progress(progress: Progress, epochs: int) -> "keras.callbacks.Callback":
    import keras

    def show(epoch: int, now: Mapping[str, float]) -> None:
        message = (
            f"loss {now['loss']:.3f}, accuracy {now['accuracy']:.2f}, "
            f"validation loss {now['val_loss']:.3f}, accuracy {now['val_accuracy']:.2f}"
        )
        progress("epoch", epoch + 1, epochs, message)

    return keras.callbacks.LambdaCallback(on_epoch_end=show)
