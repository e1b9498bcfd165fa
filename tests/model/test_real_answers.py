"""On real photos that were used for nothing, of each class the share that was asked for is answered without excluding its class."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import answers
from car_damage.model.quality.answers import fitted, quality_of
from car_damage.promotion.evidence import costs
from car_damage.settings import Answers, Promotion


@pytest.fixture(scope="module")
def network(place: Path) -> answers.Network:
    return answers.said(place)


@pytest.mark.parametrize("coverage", answers.COVERAGES)
def test_on_real_test_photos_the_coverage_of_each_class_is_within_its_error(network: answers.Network, coverage: float) -> None:
    """Within 3 standard errors: a binomial share of the test photos, and the chance that lies in the validation photos (Vovk 2012)."""
    prices = costs(answers.CLASSES, Promotion().costs)
    found = quality_of(network.test, fitted(network.validation, Answers(coverage=coverage), prices), prices, 1.0).chosen
    for number, covered in enumerate(found.covered):
        calibrated, tested = (int((of.labels == number).sum()) for of in (network.validation, network.test))
        error = math.sqrt(coverage * (1 - coverage) * (1 / tested + 1 / (calibrated + 2)))
        assert covered == pytest.approx(coverage, abs=3 * error + 1 / (calibrated + 1))


def test_over_many_halves_of_real_photos_the_coverage_of_each_class_is_the_one_that_is_expected(network: answers.Network) -> None:
    covered, expected = answers.coverage_of_draws(network)
    assert covered == pytest.approx(expected, abs=0.015)
    assert (np.asarray(covered) >= 0.89).all()
