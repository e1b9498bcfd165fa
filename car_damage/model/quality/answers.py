"""Fits to validation photos how a model answers, its calibration and its thresholds, and measures answers to others.

All is fitted to the same photos. Temperature and weights are so few numbers that the thresholds hardly notice, but they make the
coverage of the thresholds a matter of measurement, which the test photos are for. So does what else these photos have chosen: for the
network cnn, the epoch whose weights stay, and the settings that a search tries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from car_damage.data.photos.groups import SIZE_STARTS, size_classes
from car_damage.model.answering import Answering, SizeWeights
from car_damage.model.quality.calibration import Reliability, probability_weights, reliability, temperature
from car_damage.model.quality.conformal import COVERAGES, Workload, cheapest, nonconformity, workload
from car_damage.model.quality.evaluation import Labels
from car_damage.settings import Answers


@dataclass(frozen=True)
class NetworkOutput:
    """What a network says about photos."""

    labels: Labels
    """(n,) true class numbers."""
    probabilities: npt.NDArray[np.floating]
    """(n, classes), as the network gives them."""
    pixels: npt.NDArray[np.int64]
    """(n,) width times height of each upright photo."""


def fitted(said: NetworkOutput, settings: Answers, costs: npt.NDArray[np.float64]) -> Answering:
    """How the model answers.

    Args:
        said: about validation photos, n > 0.
        settings: the coverage that is asked for.
        costs: (classes, classes) of mistakes; rows are the true classes.
    """
    heat = temperature(said.labels, said.probabilities)
    answering = Answering(heat, _weights(said, Answering(heat)) if settings.group_thresholds else ())
    probabilities = answering.calibrated(said.probabilities, said.pixels)
    answering = replace(answering, scores=nonconformity(said.labels, probabilities))
    if settings.coverage != "cheapest":
        return replace(answering, coverage=settings.coverage)
    tried = [workload(answering, said.labels, probabilities, one, costs, settings.review_cost) for one in COVERAGES]
    return replace(answering, coverage=cheapest(tried).coverage)


def _weights(said: NetworkOutput, answering: Answering) -> tuple[SizeWeights, ...]:
    """Those of each size group. A group that is too small, or lacks a class, has weights of 1."""
    probabilities, of = answering.calibrated(said.probabilities, said.pixels), size_classes(said.pixels)

    def weights(group: int) -> tuple[float, ...]:
        return probability_weights(said.labels[of == group], probabilities[of == group])

    return tuple(SizeWeights(start, weights(group)) for group, start in enumerate(SIZE_STARTS))


@dataclass(frozen=True)
class AnswerQuality:
    """How good the answers to some photos are, beside their classes."""

    before: Reliability
    """Of the network's probabilities."""
    after: Reliability
    """Of the answers'."""
    chosen: Workload
    """At the model's own coverage."""
    workloads: tuple[Workload, ...]
    """At each of COVERAGES."""
    review_cost: float

    def metrics(self, prefix: str, classes: Sequence[str]) -> dict[str, float]:
        """`<prefix>_calibration_error`, `<prefix>_coverage_<class>` and so on."""
        found: dict[str, float | None] = {"calibration_error_before": self.before.error, "calibration_error": self.after.error}
        found |= {"review_share": self.chosen.review, "accuracy_without_review": self.chosen.accuracy, "cost_with_review": self.chosen.cost}
        found |= {f"coverage_{name}": share for name, share in zip(classes, self.chosen.covered, strict=True)}
        return {f"{prefix}_{name}": value for name, value in found.items() if value is not None}


def quality_of(said: NetworkOutput, answering: Answering, costs: npt.NDArray[np.float64], review_cost: float) -> AnswerQuality:
    """Measure the answers to n > 0 photos that nothing was fitted to. The arguments are those of `fitted`."""
    probabilities = answering.calibrated(said.probabilities, said.pixels)
    before, after = (reliability(said.labels, of) for of in (said.probabilities, probabilities))
    chosen, *others = (workload(answering, said.labels, probabilities, one, costs, review_cost) for one in (answering.coverage, *COVERAGES))
    return AnswerQuality(before, after, chosen, tuple(others), review_cost)
