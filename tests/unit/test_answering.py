"""What a model does to its network's probabilities: calibration, sets of classes with a coverage, and when a person must look."""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from car_damage.data.photos.groups import SIZE_STARTS
from car_damage.model.answering import LONGEST, Answering, Nonconformity, SizeWeights, needs_a_person
from car_damage.model.quality import conformal
from car_damage.model.quality.answers import NetworkOutput, fitted
from car_damage.model.quality.calibration import HOTTEST, MIN_PHOTOS, probability_weights, reliability, temperature
from car_damage.settings import Answers

Floats = npt.NDArray[np.float64]
COSTS = 1.0 - np.eye(3)


def softmax(logits: Floats) -> Floats:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def photos(count: int, seed: int, sharpness: float = 1.0, shares: tuple[float, ...] = (0.5, 0.35, 0.15)) -> NetworkOutput:
    """Photos of a world in which the logits are right, and a network that is too sure of itself by the factor `sharpness`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (count, 3)) + np.log(shares)
    labels = (softmax(logits).cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return NetworkOutput(labels, softmax(logits * sharpness), random.integers(1, 10**6, count))


def pixels(of: Floats) -> npt.NDArray[np.int64]:
    return np.full(len(of), 50_000)


def test_a_temperature_divides_the_logits_of_a_softmax() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (50, 3))
    assert Answering(2.5).calibrated(softmax(logits), pixels(logits)) == pytest.approx(softmax(logits / 2.5), abs=1e-6)


def test_without_a_temperature_probabilities_stay_as_they_are_and_no_class_can_be_excluded() -> None:
    given = softmax(np.random.default_rng(1).normal(0, 3, (5, 3))).astype(np.float32)
    answered = Answering().calibrated(given, pixels(given))
    assert (answered == given).all()
    sets = Answering().sets(answered)
    assert sets.all()
    assert needs_a_person(sets, answered).all()


@pytest.mark.parametrize("heat", [1 / HOTTEST, 0.7, 1.6, HOTTEST])
def test_a_probability_of_0_has_no_temperature_that_it_breaks(heat: float) -> None:
    answered = Answering(heat).calibrated(np.array([[0.4, 0.0, 0.6], [1.0, 0.0, 0.0]]), [1, 1])
    assert np.isfinite(answered).all()
    assert answered.sum(axis=1) == pytest.approx(1)
    assert answered.argmax(axis=1).tolist() == [2, 0]


def test_photos_of_a_size_have_the_weights_of_their_group() -> None:
    answering = Answering(weights=(SizeWeights(0, (1.0, 1.0)), SizeWeights(100, (1.0, 3.0))))
    assert answering.calibrated(np.array([[0.5, 0.5]] * 3), [1, 99, 100]).tolist() == [[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]]


def test_the_temperature_of_a_network_that_is_too_sure_is_found() -> None:
    from scipy.optimize import minimize

    said = photos(3000, 2, sharpness=2.0)
    logits = np.log(said.probabilities)

    def loss(inverse: Floats) -> float:
        return float(-np.log(softmax(logits * inverse)[np.arange(len(logits)), said.labels]).mean())

    oracle = 1 / minimize(loss, np.ones(1), method="Nelder-Mead").x[0]
    found = temperature(said.labels, said.probabilities)
    assert found == pytest.approx(oracle, rel=1e-2)
    assert found == pytest.approx(2.0, rel=0.1)
    before = reliability(said.labels, said.probabilities).error
    assert reliability(said.labels, Answering(found).calibrated(said.probabilities, said.pixels)).error < before / 3


def test_few_photos_and_photos_without_a_mistake_have_no_temperature() -> None:
    said = photos(MIN_PHOTOS - 1, 3, sharpness=3.0)
    assert temperature(said.labels, said.probabilities) == 1
    assert temperature(np.arange(60) % 3, np.eye(3)[np.arange(60) % 3] * 0.7 + 0.1) == 1


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_accuracy() -> None:
    # Two bins: 0.9 and right in 1 of 2, 0.6 and right in 2 of 2.
    given = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    found = reliability(np.array([0, 0, 0, 1]), given)
    assert found.error == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    assert found.photos[found.photos > 0].tolist() == [2, 2]
    assert found.accuracy[found.photos > 0].tolist() == [1.0, 0.5]


def test_probability_weights_make_each_class_as_probable_as_the_others() -> None:
    """At the lowest log loss with classes that count the same, the mean probability of each class is the same, too."""
    said = photos(2000, 4, shares=(0.1, 0.3, 0.6))
    shifted = softmax(np.log(said.probabilities) + np.array([1.0, 0.0, -0.8]))
    weights = probability_weights(said.labels, shifted)
    answered = Answering(weights=(SizeWeights(0, weights),)).calibrated(shifted, said.pixels)
    by_class = [answered[said.labels == number].mean(axis=0) for number in range(3)]
    assert np.mean(by_class, axis=0) == pytest.approx(1 / 3, abs=2e-3)
    shares = np.bincount(said.labels) / len(said.labels)
    oracle = np.exp([0.0, 1.0, 1.8]) * shares[0] / shares  # takes back the shift, and the shares of the classes
    assert weights == pytest.approx(oracle, rel=0.25)


def test_group_thresholds_leave_a_group_alone_that_is_small_or_lacks_a_class() -> None:
    sizes = np.repeat([SIZE_STARTS[0] + 1, SIZE_STARTS[1], SIZE_STARTS[2]], [400, MIN_PHOTOS - 1, 400])
    said = photos(len(sizes), 5)
    labels = np.where(sizes == SIZE_STARTS[2], said.labels % 2, said.labels)
    shifted = softmax(np.log(said.probabilities) + np.array([0.7, 0.0, 0.0]))
    answering = fitted(NetworkOutput(labels, shifted, sizes), Answers(group_thresholds=True), COSTS)
    assert [group.pixels for group in answering.weights] == list(SIZE_STARTS)
    assert [group.weights == (1.0, 1.0, 1.0) for group in answering.weights] == [False, True, True]
    assert fitted(said, Answers(), COSTS).weights == ()


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_on_other_photos_the_coverage_of_each_class_is_the_one_asked_for(coverage: float) -> None:
    """Over many draws of calibration photos, the mean coverage is within ceil((n + 1) c) / (n + 1) and 3 standard errors of it."""
    draws, count, others = 200, 300, 400
    covered = np.zeros((draws, 3))
    least = np.zeros((draws, 3))
    for draw in range(draws):
        said, new = photos(count, 1000 + draw), photos(others, 9000 + draw)
        answering = fitted(said, Answers(coverage=coverage), COSTS)
        answered = answering.calibrated(new.probabilities, new.pixels)
        hits = answering.sets(answered)[np.arange(others), new.labels]
        covered[draw] = [hits[new.labels == number].mean() for number in range(3)]
        of_class = np.bincount(said.labels, minlength=3)
        least[draw] = np.ceil((of_class + 1) * coverage) / (of_class + 1)
    error = covered.std(axis=0) / math.sqrt(draws)
    assert (np.abs(covered.mean(axis=0) - least.mean(axis=0)) < 3 * error + 0.003).all()
    assert (covered.mean(axis=0) > coverage - 3 * error).all()


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
@pytest.mark.parametrize("coverage", [0.8, 0.85, 0.9, 0.95])
def test_sets_are_those_of_mapie_on_the_photos_of_each_class(coverage: float) -> None:
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Network(ClassifierMixin, BaseEstimator):
        """Takes probabilities for features."""

        def __init__(self) -> None:
            self.classes_ = np.arange(3)
            self.fitted_ = True

        def fit(self, *_: object) -> "Network":
            return self

        def predict(self, given: Floats) -> npt.NDArray[np.int64]:
            return given.argmax(axis=1)

        def predict_proba(self, given: Floats) -> Floats:
            return given

    said, new = photos(500, 6), photos(200, 7)
    ours = Answering(scores=conformal.nonconformity(said.labels, said.probabilities)).sets(new.probabilities, coverage)
    for number in range(3):
        of_class = said.labels == number
        oracle = SplitConformalClassifier(Network(), confidence_level=coverage, conformity_score="lac", prefit=True)
        oracle.conformalize(said.probabilities[of_class], said.labels[of_class])
        _, theirs = oracle.predict_set(new.probabilities)
        assert (ours[:, number] == theirs[:, number, 0]).all()


def test_a_class_of_too_few_photos_is_in_every_set() -> None:
    # ceil(0.9 * (8 + 1)) is 9, and there are 8; with 9 photos, the largest score is the threshold.
    assert Nonconformity.of(np.linspace(0, 0.5, 8)).threshold(0.9) == math.inf
    assert Nonconformity.of(np.linspace(0, 0.5, 9)).threshold(0.9) == 0.5
    assert Nonconformity.of(np.zeros(0)).threshold(0.9) == math.inf


def test_of_many_scores_a_part_is_kept_whose_thresholds_are_hardly_larger() -> None:
    scores = np.sort(np.random.default_rng(8).random(12_345))
    kept = Nonconformity.of(scores)
    assert len(kept.scores) == LONGEST
    for coverage in (0.5, 0.8, 0.9, 0.97, 0.99):
        rank = math.ceil((len(scores) + 1) * coverage)
        assert scores[rank - 1] <= kept.threshold(coverage) <= scores[min(rank - 1 + 13, len(scores) - 1)]


def test_a_person_looks_unless_the_most_probable_class_is_the_only_one_left() -> None:
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], bool)
    assert needs_a_person(sets, np.array([[0.8, 0.1, 0.1]] * 4)).tolist() == [False, True, True, True]


def test_the_cheapest_coverage_depends_on_what_a_look_costs() -> None:
    said = photos(2000, 9)
    dear, cheap = (fitted(said, Answers(coverage="cheapest", review_cost=cost), COSTS).coverage for cost in (10.0, 0.01))
    assert (dear, cheap) == (0.8, 0.99)


def test_a_workload_counts_sets_looks_mistakes_and_costs() -> None:
    answering = Answering(scores=(Nonconformity(9, tuple(np.linspace(0.1, 0.5, 9))),) * 2)  # 0.9: the threshold is 0.5
    given = np.array([[0.8, 0.2], [0.5, 0.5], [0.3, 0.7], [0.6, 0.4]])
    found = conformal.workload(answering, np.array([0, 0, 0, 1]), given, 0.9, np.array([[0.0, 3.0], [8.0, 0.0]]), 2.0)
    assert (found.covered, found.review, found.accuracy) == ((2 / 3, 0.0), 0.25, pytest.approx(1 / 3))
    assert found.cost == (0 + 2 + 3 + 8) / 4


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    answering = fitted(photos(300, 10, sharpness=2.0), Answers(coverage=0.85, group_thresholds=True), COSTS)
    answering.write(tmp_path / "answering.json")
    assert Answering.read(tmp_path / "answering.json") == answering
    assert json.loads((tmp_path / "answering.json").read_text())["coverage"] == 0.85
