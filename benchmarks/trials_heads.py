"""Heads on features of a frozen backbone, for `benchmarks.trials`. Each is fitted to rows of features and gives probabilities."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
_ITERATIONS = 300
_TOLERANCE = 1e-3


class Fitted(Protocol):
    """A head that was fitted."""

    def __call__(self, rows: Features) -> Probabilities:
        """(n, features) -> (n, 3)."""


@dataclass(frozen=True)
class Linear:
    """Standardised features, their first principal components, then logistic regression with an L2 penalty."""

    ordinal: bool = True
    """Two outputs, above minor and above moderate. Otherwise softmax."""
    strength: float = 0.003
    """scikit-learn's C: the inverse of the penalty."""
    kept: int = 256
    """Principal components, not whitened."""
    weights: str | None = None
    """`balanced`: a rare class weighs as much as a common one."""

    def fit(self, rows: Features, labels: Labels) -> Fitted:
        from sklearn.linear_model import LogisticRegression

        mean, deviation = rows.mean(axis=0), rows.std(axis=0) + 1e-6
        standard = (rows - mean) / deviation
        directions = _principal(standard, self.kept)
        targets = [labels > 0, labels > 1] if self.ordinal else [labels]
        fitted: list[Any] = [
            LogisticRegression(C=self.strength, max_iter=_ITERATIONS, tol=_TOLERANCE, class_weight=self.weights).fit(
                standard @ directions, target
            )
            for target in targets
        ]

        def head(others: Features) -> Probabilities:
            reduced = (others - mean) / deviation @ directions
            found = [one.predict_proba(reduced) for one in fitted]
            return by_order(found[0][:, 1], found[1][:, 1]) if self.ordinal else np.asarray(found[0])

        return head


@dataclass(frozen=True)
class Kernel:
    """Ridge regression with a Gaussian kernel on standardised features, to the same two outputs."""

    width: float = 0.3
    """Of the kernel exp(-width * squared distance / number of features)."""
    penalty: float = 1.0

    def fit(self, rows: Features, labels: Labels) -> Fitted:
        mean, deviation = rows.mean(axis=0), rows.std(axis=0) + 1e-6
        standard = ((rows - mean) / deviation).astype(np.float64)
        targets = np.stack([labels > 0, labels > 1], axis=1) * 2.0 - 1
        middle = targets.mean(axis=0)
        factors = np.linalg.solve(self._kernel(standard, standard) + self.penalty * np.eye(len(standard)), targets - middle)

        def head(others: Features) -> Probabilities:
            scores = self._kernel((others - mean) / deviation, standard) @ factors + middle
            return by_order(*(1 / (1 + np.exp(-3 * scores))).T)

        return head

    def _kernel(self, some: Any, others: Any) -> npt.NDArray[np.float64]:
        distances = (some**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * some @ others.T
        return np.asarray(np.exp(-self.width * distances / some.shape[1]), np.float64)


def by_order(above_minor: Probabilities, above_moderate: Probabilities) -> Probabilities:
    """(n, 3) probabilities of the classes. What is above moderate is also above minor."""
    worst = np.minimum(above_minor, above_moderate)
    return np.stack([1 - above_minor, above_minor - worst, worst], axis=1)


def _principal(standard: Features, kept: int) -> Features:
    """(features, kept) orthonormal directions in which the rows vary most, from the smaller of the two matrices of products."""
    from scipy.linalg import eigh

    wide = standard.shape[1] > len(standard)
    products = standard @ standard.T if wide else standard.T @ standard
    spread, directions = eigh(products, subset_by_index=(len(products) - kept, len(products) - 1))
    return np.asarray(standard.T @ (directions / np.sqrt(spread)) if wide else directions, np.float32)
