"""How many answers should ask for a person while a version is worse than it was."""

from car_damage.model.answering import Answering, Probabilities
from car_damage.model.quality.conformal import COVERAGES


def needed(answering: Answering, probabilities: Probabilities) -> float:
    """The smallest coverage above the model's own at which the model covers what it was asked to, on the photos that it gets.

    Thresholds are fitted to validation photos. On others, the sets of classes may have the true class less often. How often they have it
    follows from the probabilities, if these can be believed: a photo is of a class with its probability.

    Args:
        answering: of the model; its coverage is what was asked for.
        probabilities: (n, classes) of the latest answers, calibrated, n > 0.

    Returns:
        One of COVERAGES; the largest where none is enough.
    """
    photos = probabilities.sum(axis=0)
    for coverage in COVERAGES:
        covered = (probabilities * answering.sets(probabilities, coverage)).sum(axis=0)
        if coverage > answering.coverage and (covered >= answering.coverage * photos).all():
            return coverage
    return COVERAGES[-1]
