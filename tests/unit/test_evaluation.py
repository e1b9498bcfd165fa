import numpy as np
import pytest

from car_damage.model.quality.evaluation import confusion_matrix, counts_of, evaluate, macro_f1, mean_recall_of

CLASSES = ("minor", "moderate", "major")


def certain(predicted: list[int], classes: int = 3) -> np.ndarray:
    return np.eye(classes)[predicted]


def test_a_confusion_matrix_has_the_truth_in_rows_and_the_prediction_in_columns() -> None:
    assert confusion_matrix(np.array([0, 0, 2]), np.array([0, 1, 1]), 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0]]


def test_metrics_of_a_known_example() -> None:
    evaluation = evaluate(np.array([0, 0, 0, 1, 1, 2]), certain([0, 0, 1, 1, 2, 2]), CLASSES)
    assert evaluation.accuracy == pytest.approx(4 / 6)
    minor, moderate, major = evaluation.classes
    assert (minor.precision, minor.recall, minor.support, minor.predicted) == (1.0, pytest.approx(2 / 3), 3, 2)
    assert (moderate.precision, moderate.recall) == (0.5, 0.5)
    assert (major.precision, major.recall) == (0.5, 1.0)
    assert evaluation.macro_f1 == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert evaluation.macro_f1 == pytest.approx(np.mean([score.f1 for score in evaluation.classes]))


def test_a_class_without_photos_has_recall_zero_and_support_zero_beside_it() -> None:
    score = evaluate(np.array([0, 1]), certain([0, 2]), CLASSES).classes[2]
    assert (score.recall, score.precision, score.f1, score.support, score.predicted) == (0.0, 0.0, 0.0, 0, 1)


def test_a_class_that_is_never_predicted_has_precision_zero() -> None:
    score = evaluate(np.array([0, 1]), certain([0, 0]), CLASSES).classes[1]
    assert (score.precision, score.recall, score.support, score.predicted) == (0.0, 0.0, 1, 0)


def test_macro_f1_leaves_out_a_class_that_occurs_nowhere() -> None:
    assert macro_f1(np.array([0, 1]), np.array([0, 1]), 3) == 1.0


def test_macro_f1_of_no_photos_is_zero() -> None:
    assert macro_f1(np.array([], np.int64), np.array([], np.int64), 3) == 0.0


def test_log_loss_of_even_guesses_is_ln_3() -> None:
    assert evaluate(np.array([0, 1, 2]), np.full((3, 3), 1 / 3), CLASSES).log_loss == pytest.approx(np.log(3))


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert 10 < evaluate(np.array([0]), certain([1]), CLASSES).log_loss < 20


def test_macro_f1_is_a_mean_over_the_classes_that_have_photos() -> None:
    """A model that says the absent class is wrong on those photos, and not punished a second time by an F1 of 0."""
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    assert macro_f1(truth, predicted, 3) == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize("always", [0, 1, 2])
def test_a_model_that_always_says_the_same_has_the_mean_recall_of_a_coin(always: int) -> None:
    truth = np.array([0] * 80 + [1] * 15 + [2] * 5)
    assert mean_recall_of(counts_of(confusion_matrix(truth, np.full(100, always), 3))) == pytest.approx(1 / 3)


def test_more_than_a_hundred_photos_of_a_class_are_counted_right() -> None:
    labels = np.zeros(400, np.int64)
    assert macro_f1(labels, labels, 2) == 1.0


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [(np.array([], np.int64), np.zeros((0, 3))), (np.array([0]), np.zeros((1, 2))), (np.array([0, 1]), np.zeros((1, 3)))],
)
def test_shapes_that_do_not_fit_are_refused(labels: np.ndarray, probabilities: np.ndarray) -> None:
    with pytest.raises(ValueError, match="labels and probabilities"):
        evaluate(labels, probabilities, CLASSES)


def test_a_class_number_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="class numbers 0 to 3"):
        confusion_matrix(np.array([0, 3]), np.array([0, 0]), 3)


def test_metrics_are_named_by_split_and_class() -> None:
    metrics = evaluate(np.array([0, 1, 2]), certain([0, 1, 2]), CLASSES).metrics("test")
    assert {"test_accuracy", "test_macro_f1", "test_recall_minor", "test_recall_moderate", "test_recall_major"} <= set(metrics)
