"""Shows where in a photo a network sees what it answers, at the price of one answer: class activation maps.

Zhou et al., Learning deep features for discriminative localization, 2016: where a linear layer decides on the means of maps, its output is
the mean of what it would say of each place.
"""

import functools
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

SOFTMAX, ORDINAL = "severity", "above"
"""Names of the linear layer that decides."""


def with_places(network: "keras.Model") -> "keras.Model | None":
    """The network with a second output: (n, h, w, classes) float32, how much each place speaks for damage at least as severe as a class;
    for the mildest class, as the next one.

    None: it has no linear layer on the means of maps, as in the network cnn, which looks at maxima too.
    """
    import keras

    head = next((layer for layer in network.layers if layer.name in {SOFTMAX, ORDINAL}), None)
    maps = [] if head is None else averaged(head.input)
    if head is None or not maps:
        return None
    said = _places(maps, speaking(np.asarray(head.kernel), ordinal=head.name == ORDINAL))
    return keras.Model(network.input, [network.output, said], name=network.name)


def speaking(kernel: Any, *, ordinal: bool) -> Any:
    """(d, classes): how much each feature speaks for damage at least as severe as a class; for the mildest class, as the next one.

    Args:
        kernel: of the linear layer that decides: (d, classes), or (d, classes - 1) of an ordinal head.
        ordinal: whether it is one.
    """
    above = kernel if ordinal else _above(kernel)
    return above[:, [0, *range(above.shape[1])]]


def averaged(features: Any) -> list[Any]:
    """The maps whose means over the photo the features are, one behind the other; none if the features are anything else."""
    from keras import layers

    origin = _origin(features)
    parts = [_origin(part) for part in origin.input] if isinstance(origin, layers.Concatenate) else [origin]
    return [part.input for part in parts] if all(isinstance(part, layers.GlobalAveragePooling2D) for part in parts) else []


def _above(kernel: Any) -> Any:
    """From a kernel with one output a class, (d, classes), what speaks for each class but the first and all that are more severe."""
    return np.stack([kernel[:, at:].mean(axis=1) - kernel[:, :at].mean(axis=1) for at in range(1, kernel.shape[1])], axis=1)


def _origin(tensor: Any) -> Any:
    """The layer that a tensor of a network comes from."""
    return tensor._keras_history.operation  # noqa: SLF001 - Keras has no other way to ask


def _places(maps: list[Any], kernel: Any) -> Any:
    """The sum of what the kernel, (d, classes), says of each place of the maps, in the size of the largest."""
    from keras import layers

    height, width = max((tuple(one.shape[1:3]) for one in maps), key=operator.itemgetter(0))
    ends = np.cumsum([one.shape[-1] for one in maps])[:-1]
    said = []
    for one, part in zip(maps, np.split(kernel, ends), strict=True):
        places = layers.Conv2D(part.shape[1], 1, use_bias=False)
        score = places(one)
        places.set_weights([part[None, None]])
        said.append(score if tuple(one.shape[1:3]) == (height, width) else layers.Resizing(height, width)(score))
    return functools.reduce(operator.add, said)
