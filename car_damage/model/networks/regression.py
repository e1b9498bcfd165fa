"""What a head is made of: the principal components of its features, and logistic regressions on them."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

_FLAT = 1e-6
"""Of the length of the first component: one that is shorter is rounding alone."""
_NEVER = 30.0
"""The logit of what never, or always, happened in the training photos: a probability of 1e-13."""


def principal(rows: Floats, components: int) -> Floats:
    """(n, d) float32, standardised rows -> (d, k) float32, the `components` directions in which they differ most, or fewer."""
    from scipy.linalg import eigh

    count, length = rows.shape
    few = count < length  # then the rows' own products have the same eigenvalues, in a smaller matrix
    products = (rows @ rows.T if few else rows.T @ rows) / count
    first = len(products) - min(components, count, length)
    # Only the vectors that are wanted, in a third of the time that all of them take.
    _, vectors = eigh(products, subset_by_index=(first, len(products) - 1), check_finite=False)
    axes = vectors[:, ::-1]
    if few:
        axes = rows.T @ axes
        lengths = np.linalg.norm(axes, axis=0)
        axes = axes[:, lengths > _FLAT * lengths[0]] / lengths[lengths > _FLAT * lengths[0]]
    # An eigenvector may as well point the other way: its largest number is positive.
    return np.asarray(axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]))


def logistic(
    rows: Floats, target: npt.NDArray[np.int64], weights: Floats, strengths: tuple[float, ...], classes: int
) -> Iterator[tuple[Floats, Floats]]:
    """Kernel (k, classes) and bias (classes,) of a logistic regression for each strength. A class without rows never happens.

    Each begins where the one before has ended.

    Args:
        rows: (n, k).
        target: (n,) class numbers.
        weights: (n,) of the rows.
        strengths: C of scikit-learn: the inverse of the regularisation.
        classes: how many there are.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    there = np.unique(target)
    if len(there) == 1:
        bias = np.full(classes, -_NEVER)
        bias[there] = 0.0
        yield from [(np.zeros((rows.shape[1], classes)), bias)] * len(strengths)
        return
    # Newton's method takes two or three steps where others take fifty. Its matrix is small for two classes, and not for many.
    fitted = LogisticRegression(max_iter=1000, warm_start=True, solver="newton-cholesky" if len(there) == 2 else "lbfgs")
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a little short of the best is as good
            fitted.set_params(C=strength).fit(rows, target, sample_weight=weights)
        yield _coefficients(fitted, there, classes)


def _coefficients(fitted: Any, there: npt.NDArray[np.int64], classes: int) -> tuple[Floats, Floats]:
    """Kernel and bias for all classes, of a regression for those that are there."""
    kernel, bias = np.zeros((fitted.coef_.shape[1], classes)), np.full(classes, -_NEVER)
    # Of two classes, scikit-learn gives the logit of the second one.
    both = len(fitted.coef_) == 1
    kernel[:, there] = np.concatenate([0 * fitted.coef_, fitted.coef_]).T if both else fitted.coef_.T
    bias[there] = np.concatenate([0 * fitted.intercept_, fitted.intercept_]) if both else fitted.intercept_
    return kernel, bias
