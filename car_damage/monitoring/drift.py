"""How far the photos and answers of a window are from those of the baseline, quantity by quantity.

A quantity has a probability p, that of so large a difference between two samples of the same kind, and two sizes of the difference which
do not grow with the number of photos: the population stability index (Siddiqi, Credit Risk Scorecards, 2006, who calls less than 0.1 no
change and more than 0.25 a large one) and the Jensen-Shannon distance (Lin, Divergence measures based on the Shannon entropy, 1991).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from car_damage.monitoring.samples import Numbers, Sample
from car_damage.settings import Monitoring

T = TypeVar("T")

BINS = 10
"""Deciles of the baseline."""
FEWEST = 20
"""Photos of which a quantity must be known, in the baseline and in the window."""
MOST = 200
"""Photos of each side whose features are compared: the kernel has as many rows and columns as there are photos."""
PERMUTATIONS = 100_000
"""Exchanges of photos that are tried at most."""
_AT_ONCE = 2_000
ANSWERED = "classes"
"""The quantity that is counted in categories: the classes that were answered."""


@dataclass(frozen=True)
class Drift:
    """The difference of one quantity."""

    quantity: str
    p: float
    psi: float | None
    """Population stability index; None for features, which are no single quantity."""
    distance: float
    """Jensen-Shannon distance, from 0 to 1; of features, the squared maximum mean discrepancy."""


def drifts(baseline: Sample, latest: Sequence[Sample], classes: tuple[str, ...], settings: Monitoring) -> Iterator[Drift]:
    """The drift of each quantity of which baseline and window have FEWEST photos: how photos look, and what was answered.

    There are two looks: at the window alone, which shows what is sudden, and at the latest windows together, which show what is slow and
    small. A few odd windows must not ring, and they would stay in the second look as long as they are among the latest ones. So it leaves
    out as many earlier windows as may be odd, `speaking` less one: those that differ most.

    Args:
        baseline: of the version.
        latest: the latest windows, oldest first; the last one is the window.
        classes: of the version.
        settings: `speaking` and `least_psi`.
    """
    of_each = [_values(of, classes) for of in latest]
    for quantity, reference in _values(baseline, classes).items():
        *earlier, window = [values[quantity] for values in of_each]
        if min(len(reference), len(window)) >= FEWEST:
            usual = unlike_least(list(filter(len, earlier)), partial(_unlike, reference), settings.speaking - 1)
            together = np.concatenate([*usual, window])
            alone, recent = (_of_values(quantity, reference, values) for values in (window, together))
            yield of_either(alone, recent, settings.least_psi)


def unlike_least(windows: Sequence[T], unlike: Callable[[T], float], odd: int) -> list[T]:
    """The windows without the `odd` ones that are most unlike the baseline."""
    return sorted(windows, key=unlike)[: max(0, len(windows) - odd)]


def of_either(window: Drift, together: Drift, least_psi: float) -> Drift:
    """The drift of the look that says more: one that is large enough to matter, and of two such the less probable one. Two looks have
    twice the chance to be wrong (Bonferroni), so p is doubled.
    """
    chosen = min(window, together, key=lambda drift: ((drift.psi or 0.0) <= least_psi, drift.p))
    return replace(chosen, p=min(1.0, 2 * chosen.p))


def of_numbers(quantity: str, baseline: Numbers, window: Numbers) -> Drift:
    """The drift of a number: p by the two-sample test of Kolmogorov and Smirnov, which assumes no distribution."""
    from scipy.stats import ks_2samp

    p = float(ks_2samp(baseline, window, method="asymp").pvalue)
    edges, times = np.unique(np.quantile(baseline, np.linspace(0, 1, BINS + 1)[1:-1]), return_counts=True)
    # A value that many photos have is a bin of its own: what is below it must not be in its bin.
    edges = np.union1d(edges, np.nextafter(edges[times > 1], -np.inf))
    return _measured(quantity, p, *(np.bincount(np.searchsorted(edges, of), minlength=len(edges) + 1) for of in (baseline, window)))


def of_counts(quantity: str, baseline: npt.NDArray[np.int64], window: npt.NDArray[np.int64]) -> Drift:
    """The drift of photos that are counted in categories, (categories,): p by the chi-squared test of homogeneity."""
    from scipy.stats import chi2_contingency

    counts = np.stack([baseline, window])
    there = counts[:, counts.sum(axis=0) > 0]
    p = float(chi2_contingency(there, correction=False).pvalue) if there.shape[1] > 1 else 1.0
    return _measured(quantity, p, baseline, window)


def of_features(baseline: npt.NDArray[np.floating], window: npt.NDArray[np.floating], improbable: float, seed: int = 0) -> Drift:
    """The drift of features, (m, d) and (n, d): the unbiased squared maximum mean discrepancy with a Gaussian kernel as wide as the median
    distance, and p by exchanging photos of both sides (Gretton et al., A kernel two-sample test, 2012). MOST of each side, at random.
    As many exchanges are tried as show a p of half of `improbable`, PERMUTATIONS at most.
    """
    from scipy.spatial.distance import pdist, squareform

    random = np.random.default_rng(seed)
    sides = [of[random.permutation(len(of))[:MOST]].astype(np.float64) for of in (baseline, window)]
    squared = squareform(pdist(np.concatenate(sides), "sqeuclidean"))
    kernel = np.exp(-squared / max(float(np.median(squared[squared > 0], axis=None)) if squared.any() else 1.0, 1e-12))
    np.fill_diagonal(kernel, 0.0)
    first = np.arange(len(kernel)) < len(sides[0])
    found = float(_discrepancies(kernel, first[None])[0])
    permutations, as_large = min(PERMUTATIONS, math.ceil(2 / improbable)), 0
    for start in range(0, permutations, _AT_ONCE):
        exchanged = random.permuted(np.tile(first, (min(_AT_ONCE, permutations - start), 1)), axis=1)
        as_large += int((_discrepancies(kernel, exchanged) >= found - 1e-12).sum())
    return Drift("features", (1 + as_large) / (1 + permutations), None, found)


def stability_index(baseline: npt.NDArray[np.int64], window: npt.NDArray[np.int64]) -> float:
    """The population stability index of two rows of counts: the sum of (q - p) ln(q / p). Half a photo is added to each, so that an empty
    category gives no infinite number; one that is empty on both sides is left out.
    """
    there = baseline + window > 0
    p, q = _shares(baseline[there]), _shares(window[there])
    return float(((q - p) * np.log(q / p)).sum())


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """The p of each of several tests, adjusted so that the chance of any false one stays below a level, however the tests depend on each
    other (Holm, A simple sequentially rejective multiple test procedure, 1979). The tests of one window depend on each other strongly, and
    one false one among them would ring: so not the method of Benjamini and Hochberg, which allows a share of false ones.
    """
    ordered = sorted(ps, key=ps.__getitem__)
    raised = np.maximum.accumulate([(len(ps) - place) * ps[name] for place, name in enumerate(ordered)])
    return {name: min(1.0, float(p)) for name, p in zip(ordered, raised, strict=True)}


def _values(sample: Sample, classes: tuple[str, ...]) -> dict[str, Numbers]:
    probabilities = {f"probability of {name}": sample.probabilities[:, number] for number, name in enumerate(classes)}
    return {**sample.inputs, **probabilities, ANSWERED: sample.predicted.astype(np.float64)}


def _of_values(quantity: str, baseline: Numbers, window: Numbers) -> Drift:
    if quantity != ANSWERED:
        return of_numbers(quantity, baseline, window)
    categories = int(max(baseline.max(), window.max())) + 1
    return of_counts(quantity, *(np.bincount(of.astype(np.int64), minlength=categories) for of in (baseline, window)))


def _unlike(baseline: Numbers, window: Numbers) -> float:
    """The statistic of Kolmogorov and Smirnov, scaled by the number of photos: the larger, the less probable."""
    values = np.concatenate([baseline, window])
    shares, others = (np.searchsorted(np.sort(of), values, side="right") / len(of) for of in (baseline, window))
    return float(np.abs(shares - others).max() * math.sqrt(len(baseline) * len(window) / len(values)))


def _measured(quantity: str, p: float, baseline: npt.NDArray[np.int64], window: npt.NDArray[np.int64]) -> Drift:
    from scipy.spatial.distance import jensenshannon

    distance = float(jensenshannon(baseline / baseline.sum(), window / window.sum(), base=2))
    return Drift(quantity, p, stability_index(baseline, window), distance if distance > 0 else 0.0)


def _shares(counts: npt.NDArray[np.int64]) -> Numbers:
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))


def _discrepancies(kernel: Numbers, first: npt.NDArray[np.bool_]) -> Numbers:
    """(k,) the squared discrepancy for each of k ways to divide the photos, (k, photos); the kernel has zeros on its diagonal."""
    one = first.astype(np.float64)
    m, n = one[0].sum(), len(kernel) - one[0].sum()
    with_first = one @ kernel
    inside, across = (with_first * one).sum(axis=1), (with_first * (1 - one)).sum(axis=1)
    outside = kernel.sum() - inside - 2 * across
    return np.asarray(inside / (m * (m - 1)) + outside / (n * (n - 1)) - 2 * across / (m * n))
