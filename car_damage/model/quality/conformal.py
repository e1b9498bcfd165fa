"""Which answers may be acted on, and what it costs to have a person look at the others. Plain numpy.

Coverage is asked for each class on its own (Mondrian: Vovk 2012): asked for all photos together, it would be reached by photos of common
classes, and the mistakes of a rare one would hide in the average.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from car_damage.model.answering import Answering, Nonconformity, Probabilities, needs_a_person
from car_damage.model.quality.evaluation import Labels

COVERAGES = tuple(percent / 100 for percent in range(80, 100))
"""Those that are compared."""


def nonconformity(labels: Labels, probabilities: Probabilities) -> tuple[Nonconformity, ...]:
    """The scores of each class, 1 less the probability of the true class, of n calibration photos, (n, classes) (Sadinle et al. 2019)."""
    return tuple(Nonconformity.of(1 - probabilities[labels == number, number]) for number in range(probabilities.shape[1]))


@dataclass(frozen=True)
class Workload:
    """What happens to photos at one coverage."""

    coverage: float
    """That was asked for."""
    covered: tuple[float | None, ...]
    """Class -> share of its photos whose set has it. None: it has no photos."""
    review: float
    """Share of the photos that a person must look at."""
    accuracy: float | None
    """Of the answers to the others. None: there are no others."""
    cost: float
    """A photo, on average: that of wrong answers, and that of a look for each photo that a person must look at."""


def workload(  # noqa: PLR0917 - answers, what they are asked for, and what they are measured by
    answering: Answering,
    labels: Labels,
    probabilities: Probabilities,
    coverage: float,
    costs: npt.NDArray[np.float64],
    review_cost: float,
) -> Workload:
    """Measure answers to n > 0 photos.

    Args:
        answering: has the thresholds.
        labels: (n,) class numbers.
        probabilities: (n, classes), calibrated.
        coverage: of each class.
        costs: (classes, classes) of mistakes; rows are the true classes.
        review_cost: of one look by a person, in the same unit.
    """
    sets = answering.sets(probabilities, coverage)
    predicted, person = probabilities.argmax(axis=1), needs_a_person(sets, probabilities)
    hits, answered = sets[np.arange(len(labels)), labels], ~person
    by_class = [hits[labels == number] for number in range(probabilities.shape[1])]
    return Workload(
        coverage=coverage,
        covered=tuple(float(of.mean()) if len(of) else None for of in by_class),
        review=float(person.mean()),
        accuracy=float((predicted == labels)[answered].mean()) if answered.any() else None,
        cost=float(np.where(person, review_cost, costs[labels, predicted]).mean()),
    )


def cheapest(workloads: Sequence[Workload]) -> Workload:
    """The one with the lowest cost; of several, the one with the largest coverage."""
    return min(workloads, key=lambda one: (one.cost, -one.coverage))
