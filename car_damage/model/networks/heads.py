"""The head of the network transfer: from the features of a backbone to one probability a class.

The features are standardised, brought to their principal components, and given to a logistic regression whose regularisation
cross-validation chooses. All of this is linear, so it becomes one layer of the network. Near-duplicates are in one fold, so no photo is
answered by a head that has learned from its twin. Pure numpy and scikit-learn: the same features, labels and seed give the same head.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from car_damage.model.networks.activation import ORDINAL, SOFTMAX
from car_damage.model.networks.regression import logistic, principal
from car_damage.model.networks.training import class_weights

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.floating]
Kind = Literal["softmax", "ordinal"]

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""The values of C that are tried: the inverse of the regularisation, as scikit-learn has it."""
FOLDS = 5
COMPONENTS = 256
"""Principal components that the head sees, at most, where the settings do not say."""
_RISEN = 2
"""Strengths with which the loss has risen, one after the other, before no more are tried."""


@dataclass(frozen=True)
class Head:
    """A fitted head: one linear layer, and how its outputs become probabilities."""

    kernel: npt.NDArray[np.float32]
    """(d, outputs)."""
    bias: npt.NDArray[np.float32]
    """(outputs,). softmax: one output a class; ordinal: one for each class but the first, whether the damage is that severe."""
    kind: Kind

    def probabilities(self, features: Floats) -> npt.NDArray[np.float64]:
        """(n, d) -> (n, classes), each row adds up to 1."""
        logits = np.asarray(features, np.float64) @ self.kernel + self.bias
        if self.kind == "softmax":
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        else:
            above = 1 / (1 + np.exp(-logits))
            steps, first = differences(above.shape[1] + 1)
            odds = np.maximum(above @ steps + first, 0.0)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def on(self, backbone: "keras.Model") -> "keras.Model":
        """The network: the backbone, (n, 224, 224, 3) uint8 -> (n, d), and this head on it; the output is (n, classes) float32."""
        import keras
        from keras import layers, ops

        outputs = len(self.bias)
        if self.kind == "softmax":
            severity = layers.Dense(outputs, activation="softmax", name=SOFTMAX)
            network = keras.Model(backbone.input, severity(backbone.output), name="transfer")
            severity.set_weights([self.kernel, self.bias])
            return network
        above, steps = layers.Dense(outputs, activation="sigmoid", name=ORDINAL), layers.Dense(outputs + 1, activation="relu", name="steps")
        odds = steps(above(backbone.output))
        network = keras.Model(backbone.input, ops.divide(odds, ops.sum(odds, axis=-1, keepdims=True)), name="transfer")
        above.set_weights([self.kernel, self.bias])
        steps.set_weights(list(differences(outputs + 1)))
        return network


def head_of(network: "keras.Model", kind: Kind) -> Head:
    """The head of a network that `Head.on` has made. Raises ValueError, of Keras, where it has none of this kind."""
    kernel, bias = network.get_layer("severity" if kind == "softmax" else "above").get_weights()
    return Head(kernel, bias, kind)


@dataclass(frozen=True)
class Fitted:
    """A head, and what cross-validation said of it."""

    head: Head
    strength: float
    """The chosen C."""
    losses: dict[float, float] = field(default_factory=dict)
    """C -> mean log loss of the photos in the folds that did not learn from them, each class counting the same. Empty: too few photos."""
    out_of_fold: npt.NDArray[np.float64] | None = None
    """(n, classes): each photo's probabilities from the head that did not learn from it, with the chosen C. None: too few photos."""


@contextmanager
def _linear_algebra() -> Iterator[None]:
    """One thread: these matrices are small, and with several, the fit of 1,832 photos took 14 times the processor time on a busy machine.

    And no warning of an invalid value, which OpenBLAS may note for a product of finite numbers: https://github.com/numpy/numpy/issues/24067.
    Features that are no numbers are refused when they are computed.
    """
    import scipy.linalg  # noqa: F401 - it loads a library of its own, and a limit reaches only those that are loaded
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"), np.errstate(invalid="ignore"):
        yield


@_linear_algebra()
def fit(  # noqa: PLR0917 - from what, and how
    features: Floats,
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    classes: int,
    kind: Kind,
    seed: int,
    components: int = COMPONENTS,
) -> Fitted:
    """Choose the regularisation, and fit the head on all photos.

    Args:
        features: (n, views, d); the first view is the photo as the served model gets it.
        labels: (n,) class numbers.
        groups: (n,) photos of one group are in one fold.
        classes: number of classes.
        kind: how outputs become probabilities.
        seed: divides the photos into folds.
        components: principal components that the head sees, at most.
    """
    parts = folds(labels, groups, seed)
    if not parts:
        strength = STRENGTHS[len(STRENGTHS) // 2]
        return Fitted(with_strength(features, labels, classes, kind, strength, components), strength)
    weights, losses, answers = balanced(labels, classes), {}, {}
    of_folds = [_path(features[learned], labels[learned], classes, kind, STRENGTHS, components) for learned, _ in parts]
    for strength, *found in zip(STRENGTHS, *of_folds, strict=False):
        said = answers[strength] = np.full((len(labels), classes), np.nan)
        for head, (_, asked) in zip(found, parts, strict=True):
            said[asked] = head.probabilities(features[asked, 0])
        right = np.clip(said[np.arange(len(labels)), labels], 1e-12, 1.0)
        losses[strength] = float(-(np.log(right) * weights).mean())
        if _rises(list(losses.values())):
            break  # the heads with more strength take longest, and are worse
    best = min(losses, key=lambda tried: losses[tried])
    return Fitted(with_strength(features, labels, classes, kind, best, components), best, losses, answers[best])


def _rises(losses: list[float]) -> bool:
    """Whether the last losses have risen each time."""
    last = losses[-_RISEN - 1 :]
    return len(last) > _RISEN and all(one < other for one, other in itertools.pairwise(last))


@_linear_algebra()
def with_strength(  # noqa: PLR0917 - from what, and how
    features: Floats, labels: npt.NDArray[np.int64], classes: int, kind: Kind, strength: float, components: int = COMPONENTS
) -> Head:
    """The head for a C that is known. The arguments are those of `fit`."""
    return next(_path(features, labels, classes, kind, (strength,), components))


def folds(labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], seed: int) -> list[tuple[Any, Any]]:
    """Pairs of (rows to learn from, rows to ask about), (k,) indices of `labels` each; none where a class has fewer than two groups."""
    from sklearn.model_selection import StratifiedGroupKFold

    number = min(FOLDS, *(len(np.unique(groups[labels == label])) for label in np.unique(labels)))
    if number < 2:
        return []
    return list(StratifiedGroupKFold(number, shuffle=True, random_state=seed).split(labels, labels, groups))


def _path(  # noqa: PLR0917 - from what, and how
    features: Floats, labels: npt.NDArray[np.int64], classes: int, kind: Kind, strengths: tuple[float, ...], components: int
) -> Iterator[Head]:
    """A head for each strength. Each view of a photo is a row, and the rows of a photo together count as one."""
    count, views, length = features.shape
    rows = np.asarray(features, np.float32).reshape(count * views, length)
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    scale = np.where(deviation > 0, deviation, 1.0)
    rows = (rows - mean.astype(np.float32)) / scale.astype(np.float32)  # in half the time: the last digits do not matter from here on
    axes = principal(rows, components)
    seen, of = rows @ axes, np.repeat(labels, views)
    del features, rows  # several paths are walked side by side
    weights = balanced(of, classes) / views
    targets = [of] if kind == "softmax" else [(of >= severity).astype(np.int64) for severity in range(1, classes)]
    of_targets = [logistic(seen, target, weights, strengths, classes if kind == "softmax" else 2) for target in targets]
    for parts in zip(*of_targets, strict=True):
        if kind == "softmax":
            [(inner, outer)] = parts
        else:  # of two classes, only what speaks for the upper one
            inner = np.concatenate([kernel[:, 1:] - kernel[:, :1] for kernel, _ in parts], axis=1)
            outer = np.concatenate([bias[1:] - bias[:1] for _, bias in parts])
        kernel = (axes / scale[:, None]) @ inner
        bias = outer - mean @ kernel
        yield Head(kernel.astype(np.float32), bias.astype(np.float32), kind)


def balanced(labels: npt.NDArray[np.int64], classes: int) -> Floats:
    """(n,) weights with which all classes count the same."""
    weights = class_weights(labels, classes)
    return np.array([weights[number] for number in range(classes)])[labels]


def differences(classes: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Kernel (classes - 1, classes) and bias (classes,) that turn "at least as severe as each class but the first" into the share of each
    class, by differences.

    Two of them may contradict each other: then a difference is negative, and counts as none.
    """
    kernel, bias = np.zeros((classes - 1, classes), np.float32), np.zeros(classes, np.float32)
    bias[0] = 1.0
    for severity in range(classes - 1):
        kernel[severity, severity], kernel[severity, severity + 1] = -1.0, 1.0
    return kernel, bias
