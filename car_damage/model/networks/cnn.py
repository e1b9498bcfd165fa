"""The network cnn: photos in, one probability per class out; and the augmentation of training photos.

A network takes the decoder's pixels unchanged, (n, 224, 224, 3) uint8, and rescales them itself, so that every caller passes
the same input. Augmentation is a layer in front of the network during training. It is not saved.
"""

from typing import TYPE_CHECKING, Any

from car_damage.model.networks.startup import import_quietly
from car_damage.photo.limits import SIZE

if TYPE_CHECKING:
    import keras

SHIFT = 0.1
"""Photos are shifted in each direction by up to this share of their side; the edge is repeated."""
BRIGHTNESS = 0.25
"""Photos are made brighter or darker by up to this factor."""


def cnn(classes: int, dropout: float = 0.3) -> "keras.Model":
    """A small convolutional network, trained from scratch: about 2 ms per photo and training step on two cores.

    The first layer has a stride of 4, because the largest maps cost most of the time. Only the pooled features are
    batch-normalised: the differences between photos are small compared to their mean, and a few hundred steps would not
    learn to ignore the mean. Batch normalisation of the maps would double the time of a step.

    Returns:
        (n, 224, 224, 3) uint8 -> (n, classes) float32, each row adds up to 1. The weights are initialised from Keras' seed.
    """
    import_quietly()
    import keras
    from keras import layers

    def convolution(filters: int, kernel: int, stride: int = 1) -> Any:
        return layers.Conv2D(filters, kernel, strides=stride, padding="same", activation="relu", kernel_initializer="he_normal")

    photo = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="photo")
    maps = layers.Rescaling(1 / 127.5, offset=-1)(photo)
    maps = convolution(32, 3)(convolution(16, 5, stride=4)(maps))
    maps = convolution(64, 3)(layers.MaxPooling2D()(maps))
    maps = convolution(96, 3)(layers.MaxPooling2D()(maps))
    # The mean measures how much of the photo is damaged, the maximum how severe the worst place is.
    pooled = layers.Concatenate()([layers.GlobalAveragePooling2D()(maps), layers.GlobalMaxPooling2D()(maps)])
    features = layers.Dropout(dropout)(layers.BatchNormalization(momentum=0.9)(pooled))
    # Small initial weights, so that an untrained network gives all classes the same probability (a loss of ln n).
    small = keras.initializers.RandomNormal(stddev=0.01)
    probabilities = layers.Dense(classes, activation="softmax", kernel_initializer=small, name="severity")(features)
    return keras.Model(photo, probabilities, name="cnn")


def build(network: str, classes: int) -> "keras.Model":
    """The network with the name in the setting `training.network`."""
    return {"cnn": cnn}[network](classes)


def augmented(network: "keras.Model", seed: int) -> "keras.Model":
    """A model that shares the network's weights, and mirrors, shifts and brightens its input photos at random.

    The same seed and photos give the same changes. The network is saved without the augmentation.
    """
    import_quietly()
    import keras
    import tensorflow as tf

    class Augmentation(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        """Changes photos in training, and only then. One gather shifts and mirrors, in a third of the time of Keras' own
        layers, which interpolate.
        """

        def __init__(self) -> None:
            super().__init__(name="augmentation")
            self.random = keras.random.SeedGenerator(seed)

        def call(self, photos: Any, training: bool = False) -> Any:
            """(n, 224, 224, 3) uint8 -> the same."""
            if not training:
                return photos
            down, right, mirror, light = tf.unstack(keras.random.uniform((4, tf.shape(photos)[0], 1), -1.0, 1.0, seed=self.random))
            sides = tf.range(SIZE)[None]
            rows = tf.clip_by_value(sides + tf.cast(down * SHIFT * SIZE, tf.int32), 0, SIZE - 1)
            columns = tf.clip_by_value(sides + tf.cast(right * SHIFT * SIZE, tf.int32), 0, SIZE - 1)
            columns = tf.where(mirror < 0, columns, SIZE - 1 - columns)
            moved = tf.gather(tf.gather(photos, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
            lit = tf.cast(moved, tf.float32) * (1.0 + BRIGHTNESS * light)[:, :, None, None]
            return tf.cast(tf.clip_by_value(lit, 0.0, 255.0), tf.uint8)

    photo = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="photo")
    return keras.Model(photo, network(Augmentation()(photo)), name="augmented")
