"""Trains in half the bits where that is quicker: on a GPU, whose units for 16-bit numbers are several times as fast.

The weights stay 32-bit numbers (Micikevicius et al. 2018), and after the training the layers compute with 32 bits again: the model that is
exported answers as any other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from car_damage.model.networks import startup
from car_damage.settings import Precision

if TYPE_CHECKING:
    import keras

FULL: Precision = "float32"


def here(wanted: Precision) -> Precision:
    """What a training on this machine computes with: without a GPU 32 bits, because processors are slower with 16."""
    return wanted if startup.has_gpu() else FULL


@contextmanager
def computing(model: "keras.Model", precision: Precision) -> Iterator[None]:
    """In the block, the layers of a model compute with this precision, except its last one, whose probabilities keep 32 bits.

    The model must be compiled in the block: Keras scales the loss for numbers of 16 bits then.
    """
    layers = list(_layers(model))[:-1] if precision != FULL else []
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = precision
    try:
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def _layers(model: "keras.Model") -> "Iterator[keras.layers.Layer]":
    """A model, its layers and those of the models in it, in the order in which they compute."""
    import keras

    yield model
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else (layer,)
