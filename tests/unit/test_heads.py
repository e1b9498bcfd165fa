"""The head on a backbone's features: what it learns, how it chooses, and that one layer holds all of it."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from car_damage.model.networks import startup
from car_damage.model.networks.heads import STRENGTHS, Head, fit
from car_damage.model.networks.regression import principal

KINDS: Any = ("softmax", "ordinal")


def features(photos: int, seed: int = 0, length: int = 12, views: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Photos whose class shows in the first number, in units that differ by a thousand."""
    random = np.random.default_rng(seed)
    labels = np.arange(photos) % 3
    shown = random.normal(size=(photos, views, length)) + (2.0 * labels[:, None, None] - 2.0) * (np.arange(length) == 0)
    return (shown * np.geomspace(1, 1000, length) + 5).astype(np.float32), labels


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_learns_what_the_features_show(kind: Any) -> None:
    seen, labels = features(300)
    fitted = fit(seen, labels, np.arange(300), 3, kind, 1)
    new, truth = features(300, seed=1)
    probabilities = fitted.head.probabilities(new[:, 0])
    assert (probabilities.argmax(axis=1) == truth).mean() > 0.75
    assert (probabilities >= 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(300))
    assert fitted.out_of_fold is not None
    assert (fitted.out_of_fold.argmax(axis=1) == labels).mean() > 0.7
    assert fitted.strength == min(fitted.losses, key=lambda strength: fitted.losses[strength])
    assert tuple(fitted.losses) == STRENGTHS


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_features_and_seed_give_the_same_head(kind: Any) -> None:
    seen, labels = features(60)
    first, second = (fit(seen, labels, np.arange(60), 3, kind, 7).head for _ in range(2))
    assert np.array_equal(first.kernel, second.kernel)
    assert np.array_equal(first.bias, second.bias)


def test_near_duplicates_are_never_asked_of_a_head_that_has_learned_from_one_of_them() -> None:
    """Features are noise, and each photo is there five times: only who learned from a twin would know its class."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(60) % 3, 5)
    seen = np.repeat(random.normal(size=(60, 1, 40)), 5, axis=0).astype(np.float32)
    apart, together = (fit(seen, labels, groups, 3, "softmax", 1) for groups in (np.arange(300), np.repeat(np.arange(60), 5)))
    assert apart.out_of_fold is not None
    assert together.out_of_fold is not None
    assert (apart.out_of_fold.argmax(axis=1) == labels).mean() > 0.9
    assert (together.out_of_fold.argmax(axis=1) == labels).mean() < 0.6


def test_a_rare_class_counts_as_much_as_a_common_one() -> None:
    seen, labels = features(600)
    some = np.flatnonzero((labels != 2) | (np.arange(600) % 30 == 2))
    fitted = fit(seen[some], labels[some], some, 3, "ordinal", 1)
    new, truth = features(300, seed=1)
    answers = fitted.head.probabilities(new[truth == 2, 0]).argmax(axis=1)
    assert (answers == 2).mean() > 0.6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("there", [[0, 1], [0, 2], [1, 2], [1]])
def test_a_class_without_photos_is_never_answered(kind: Any, there: list[int]) -> None:
    seen, labels = features(90)
    some = np.isin(labels, there)
    probabilities = fit(seen[some], labels[some], np.flatnonzero(some), 3, kind, 1).head.probabilities(seen[:, 0])
    assert set(probabilities.argmax(axis=1).tolist()) <= set(there)
    assert probabilities[:, [label for label in range(3) if label not in there]].max() < 1e-6 or kind == "ordinal"


def test_with_too_few_photos_for_cross_validation_there_is_a_head_and_no_evidence() -> None:
    seen, labels = features(4)
    fitted = fit(seen, labels, np.arange(4), 3, "ordinal", 1)
    assert (fitted.out_of_fold, fitted.losses) == (None, {})
    assert fitted.head.probabilities(seen[:, 0]).shape == (4, 3)


def test_ordinal_outputs_that_contradict_each_other_still_give_probabilities() -> None:
    head = Head(np.array([[1.0, -1.0]], np.float32), np.zeros(2, np.float32), "ordinal")
    probabilities = head.probabilities(np.array([[-3.0], [3.0]]))
    assert (probabilities >= 0).all()
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_answers_as_the_head_does_on_the_features(kind: Any) -> None:
    startup.import_quietly()
    import keras

    seen, labels = features(90)
    head = fit(seen, labels, np.arange(90), 3, kind, 1).head
    given = keras.Input((12,))
    network = head.on(keras.Model(given, keras.layers.Rescaling(1.0)(given)))
    assert np.asarray(network(seen[:, 0])) == pytest.approx(head.probabilities(seen[:, 0]), abs=1e-4)


@pytest.mark.parametrize(("count", "length"), [(200, 40), (30, 80)])
def test_the_principal_components_are_the_directions_of_most_variance_in_that_order(count: int, length: int) -> None:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(count, length)) * np.geomspace(1, 100, length)).astype(np.float32)
    _, _, directions = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    found = principal(rows, 5)
    assert found.shape == (length, 5)
    assert np.abs(directions[:5] @ found) == pytest.approx(np.eye(5), abs=1e-3)


def test_a_fit_in_a_new_process_holds_every_library_to_one_thread() -> None:
    code = """
from threadpoolctl import threadpool_info
from car_damage.model.networks import heads
with heads._linear_algebra():
    import sklearn.linear_model
    print({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "{1}\n"
