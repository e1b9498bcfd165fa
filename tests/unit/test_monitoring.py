"""The pure part of monitoring: distances against oracles and by hand, estimates, windows, and what speaks."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from car_damage.data.answers.inference_log import INFERENCE_LOG
from car_damage.model.answering import Answering, Nonconformity
from car_damage.monitoring import drift, findings, quality, samples, windows
from car_damage.monitoring.coverage import needed
from car_damage.monitoring.drift import Drift
from car_damage.monitoring.samples import UNKNOWN, Sample
from car_damage.settings import Monitoring

CLASSES = ("minor", "moderate", "major")
START = datetime(2026, 3, 1, tzinfo=UTC)
RANDOM = np.random.default_rng


def row(number: int, at: datetime, **facts: Any) -> dict[str, Any]:
    """A row of the request log with an answer."""
    answer = {"label": "minor", "probabilities": json.dumps({"minor": 0.8, "moderate": 0.1, "major": 0.1}), "review": False}
    photo = {"sha256": f"{number:064x}", "width": 400, "height": 300, "brightness": 0.5, "sharpness": 0.01, "warmth": 0.0}
    return {"request_id": str(number), "answered": at, "endpoint": "ep", "model_version": 1, "status": 200, **answer, **photo, **facts}


def log(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=INFERENCE_LOG)


def sample(seed: int, photos: int = 400, sure: float = 6.0, dark: float = 0.0) -> Sample:
    """Calibrated answers: each photo's label is drawn from its probabilities."""
    random = RANDOM(seed)
    probabilities = random.dirichlet(np.ones(3) / sure, photos)
    labels = (probabilities.cumsum(axis=1) > random.random((photos, 1))).argmax(axis=1)
    inputs = {"brightness": random.normal(0.5 - dark, 0.1, photos), "sharpness": random.lognormal(-4, 1, photos)}
    return Sample(inputs, probabilities, labels, probabilities.max(axis=1) < 0.7)


def test_the_stability_index_is_that_of_the_formula() -> None:
    """By hand, with half a photo more in each category: shares 10.5/21 and 10.5/21 against 5.5/21 and 15.5/21."""
    by_hand = (5.5 - 10.5) / 21 * np.log(5.5 / 10.5) + (15.5 - 10.5) / 21 * np.log(15.5 / 10.5)
    assert drift.stability_index(np.array([10, 10]), np.array([5, 15])) == pytest.approx(by_hand)
    assert drift.stability_index(np.array([10, 10]), np.array([10, 10])) == 0


def test_numbers_are_compared_as_scipy_does_in_deciles_of_the_baseline() -> None:
    reference, window = RANDOM(0).normal(size=1000), RANDOM(1).normal(0.3, 1, 300)
    found = drift.of_numbers("brightness", reference, window)
    assert found.p == pytest.approx(stats.ks_2samp(reference, window, method="asymp").pvalue)
    edges = [-np.inf, *np.quantile(reference, np.linspace(0.1, 0.9, 9)), np.inf]
    counts = [np.histogram(of, edges)[0] for of in (reference, window)]
    assert found.distance == pytest.approx(jensenshannon(*counts, base=2))
    assert found.psi == pytest.approx(drift.stability_index(*counts))


def test_a_quantity_that_is_the_same_for_all_photos_has_no_drift() -> None:
    same = drift.of_numbers("size", np.full(100, 7.0), np.full(50, 7.0))
    assert (same.p, same.psi, same.distance) == (1.0, 0.0, 0.0)
    counted = drift.of_counts("classes", np.array([50, 0, 0]), np.array([20, 0, 0]))
    assert (counted.p, counted.distance) == (1.0, 0.0)


def test_a_value_that_most_photos_have_is_a_bin_between_what_is_below_and_what_is_above() -> None:
    """One camera turns its photos: the binary logarithm of width / height is 0.415 of all, and then -0.415."""
    reference = np.full(400, 0.415)
    for turned in (-0.415, 1.0):
        found = drift.of_numbers("aspect", reference, np.full(100, turned))
        assert (found.p < 1e-9, found.psi > 1, found.distance) == (True, True, pytest.approx(1))
    mostly = np.concatenate([reference, np.linspace(0, 1, 40)])
    assert drift.of_numbers("aspect", mostly, mostly).psi == 0


def test_classes_are_compared_by_the_chi_squared_test() -> None:
    found = drift.of_counts("classes", np.array([50, 30, 20]), np.array([10, 10, 40]))
    assert found.p == pytest.approx(stats.chi2_contingency([[50, 30, 20], [10, 10, 40]], correction=False).pvalue)


def test_p_is_adjusted_as_holm_says() -> None:
    """By hand: 0.01 * 3, 0.02 * 2, and 0.03 is raised to that of the one before it."""
    assert drift.holm({"a": 0.03, "b": 0.01, "c": 0.02}) == {"b": 0.03, "c": pytest.approx(0.04), "a": pytest.approx(0.04)}
    assert drift.holm({}) == {}
    assert drift.holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_features_of_the_same_kind_are_alike_and_moved_ones_are_not() -> None:
    random = RANDOM(3)
    same = drift.of_features(random.normal(size=(150, 20)), random.normal(size=(100, 20)), 0.01)
    moved = drift.of_features(random.normal(size=(150, 20)), random.normal(0.7, 1, size=(100, 20)), 0.01)
    assert same.p > 0.05
    assert moved.p == 1 / 201
    assert moved.distance > same.distance


def test_features_are_exchanged_as_often_as_their_p_must_be_small() -> None:
    random = RANDOM(3)
    one, other = random.normal(size=(30, 5)), random.normal(3, 1, size=(30, 5))
    assert drift.of_features(one, other, 1e-4).p < 1e-4
    assert drift.of_features(one, other, 1e-9).p == 1 / (1 + drift.PERMUTATIONS)


def test_the_discrepancy_is_that_of_its_definition() -> None:
    """The unbiased estimate, written as three sums over pairs (Gretton et al. 2012, equation 3)."""
    one, other = RANDOM(0).normal(size=(12, 2)), RANDOM(1).normal(1, 1, size=(9, 2))
    both = np.concatenate([one, other])
    squared = ((both[:, None] - both) ** 2).sum(axis=2)
    kernel = np.exp(-squared / np.median(squared[squared > 0]))
    pairs = (
        [kernel[i, j] for i in range(12) for j in range(12) if i != j],
        [kernel[i, j] for i in range(12, 21) for j in range(12, 21) if i != j],
    )
    assert drift.of_features(one, other, 0.01).distance == pytest.approx(
        np.mean(pairs[0]) + np.mean(pairs[1]) - 2 * kernel[:12, 12:].mean()
    )


def test_quality_is_estimated_from_probabilities_by_hand() -> None:
    """Two photos: expected hits 0.8 of minor and 0.6 of major; expected photos 1.0, 0.3 and 0.7."""
    found = quality.estimated(np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6]]))
    assert found is not None
    assert found.accuracy == pytest.approx(0.7)
    assert found.macro_f1 == pytest.approx((2 * 0.8 / (1 + 1) + 0 + 2 * 0.6 / (0.7 + 1)) / 3)
    assert quality.estimated(np.zeros((0, 3))) is None


def test_the_estimate_is_close_to_the_truth_where_probabilities_are_calibrated() -> None:
    of = sample(0, 20_000)
    estimate, truth = quality.estimated(of.probabilities), quality.measured(of)
    assert estimate is not None
    assert truth is not None
    assert estimate.macro_f1 == pytest.approx(truth.macro_f1, abs=0.01)
    assert truth.accuracy_interval[0] < estimate.accuracy < truth.accuracy_interval[1]
    assert abs(quality.shortfalls(of).mean()) < 0.01


def test_only_photos_with_a_label_are_measured() -> None:
    of = Sample({}, np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, UNKNOWN, 0]), np.zeros(3, bool))
    found = quality.measured(of)
    assert found is not None
    assert (found.photos, found.accuracy) == (2, 0.5)
    assert quality.shortfalls(of).tolist() == pytest.approx([0.9 - 1, 0.7])
    assert quality.measured(Sample({}, of.probabilities, np.full(3, UNKNOWN), of.review)) is None


def test_a_sample_of_the_log_has_what_the_rows_say() -> None:
    rows = log(
        row(1, START), row(2, START, review=True, brightness=None), row(3, START, probabilities=None, label=None, refused="truncated")
    )
    found = samples.of_log(rows, CLASSES, {f"{2:064x}": "major", f"{1:064x}": "unheard"})
    assert found.probabilities.tolist() == [[0.8, 0.1, 0.1]] * 2
    assert found.labels.tolist() == [UNKNOWN, 2]
    assert found.review.tolist() == [False, True]
    assert found.inputs["brightness"].tolist() == [0.5, 0.5]
    assert found.inputs["size"].tolist() == pytest.approx([np.log2(120_000)] * 3)
    assert found.inputs["aspect"].tolist() == pytest.approx([np.log2(4 / 3)] * 3)


def test_a_photo_that_was_sent_several_times_counts_once_with_its_first_answer() -> None:
    same = dict.fromkeys(("sha256",), "a" * 64)
    refused = dict.fromkeys(("probabilities", "label", "width"))
    rows = log(row(1, START, **same, **refused), row(2, START, **same, review=True), row(3, START, **same), row(4, START), row(5, START))
    found = samples.of_log(rows, CLASSES, {})
    assert found.review.tolist() == [True, False, False]
    assert len(found.inputs["size"]) == 3
    nameless = log(*(row(number, START, sha256=None) for number in range(3)))
    assert len(samples.of_log(nameless, CLASSES, {}).labels) == 3


def test_rows_without_any_answer_are_a_sample_of_nothing() -> None:
    empty = dict.fromkeys(("width", "height", "brightness", "sharpness", "warmth", "probabilities", "label", "sha256", "review"))
    found = samples.of_log(log(row(1, START, status=429, **empty)), CLASSES, {})
    assert found.probabilities.shape == (0, 3)
    assert {name: len(values) for name, values in found.inputs.items()} == dict.fromkeys(
        ("brightness", "sharpness", "warmth", "size", "aspect"), 0
    )


def test_windows_follow_one_another_and_each_row_is_in_one() -> None:
    """Three rows a day: a window of 4 rows is two days, and the last two days have not ended."""
    rows = log(*(row(number, START + timedelta(hours=8 * number)) for number in range(18)))
    found = list(windows.closed(rows, None, START + timedelta(days=5), 24, 4))
    assert [(one.begins, one.ends) for one in found] == [
        (START, START + timedelta(days=2)),
        (START + timedelta(days=2), START + timedelta(days=4)),
    ]
    assert [one.rows["request_id"].to_pylist() for one in found] == [[str(number) for number in range(at, at + 6)] for at in (0, 6)]
    again = list(windows.closed(rows, found[0].ends, START + timedelta(days=6), 24, 4))
    assert [one.begins for one in again] == [found[1].begins, found[1].ends]


def test_a_window_of_errors_ends_too() -> None:
    rows = log(*(row(number, START, status=500, probabilities=None) for number in range(5)))
    [found] = windows.closed(rows, None, START + timedelta(days=1), 24, 5)
    assert findings.traffic(found.rows).errors == 1.0


def test_no_window_ends_with_too_few_rows_or_before_late_rows_are_there() -> None:
    rows = log(*(row(number, START) for number in range(5)))
    assert not list(windows.closed(rows, None, START + timedelta(days=9), 24, 6))
    assert not list(windows.closed(rows, None, START + timedelta(hours=23), 24, 5))
    assert not list(windows.closed(log(), None, START, 24, 5))


def test_it_rings_when_enough_of_the_latest_windows_say_the_same() -> None:
    dark, loud = frozenset({"brightness"}), frozenset({"sharpness"})
    assert windows.alarm([dark, loud, frozenset()], dark, 2, 3) == frozenset()
    assert windows.alarm([dark, loud, dark], dark | loud, 2, 3) == dark | loud
    assert windows.alarm([dark, dark], frozenset(), 2, 3) == frozenset()


def judged(baseline: Sample | None, window: Sample, rows: pa.Table | None = None, **limits: Any) -> findings.Verdict:
    return judged_together(baseline, [window], rows, **limits)


def judged_together(baseline: Sample | None, latest: list[Sample], rows: pa.Table | None = None, **limits: Any) -> findings.Verdict:
    settings = Monitoring(**limits)
    drifts = [] if baseline is None else list(drift.drifts(baseline, latest, CLASSES, settings))
    return findings.verdict(baseline, latest, findings.traffic(log(row(1, START)) if rows is None else rows), drifts, settings)


def test_photos_like_those_of_the_training_say_nothing() -> None:
    assert not judged(sample(0), sample(1)).speaks


def test_dark_photos_speak_of_brightness() -> None:
    assert judged(
        sample(0), Sample({**sample(1).inputs, "brightness": sample(1, dark=0.2).inputs["brightness"]}, *vars_of(sample(1)))
    ).speaks == {"brightness"}


def vars_of(of: Sample) -> tuple[Any, ...]:
    return of.probabilities, of.labels, of.review


def test_answers_that_are_less_sure_speak_of_estimated_quality_and_of_reviews() -> None:
    assert {"estimated macro-F1", "answers for a person"} <= judged(sample(0), sample(1, sure=1.5)).speaks


def test_labels_show_a_model_that_is_wrong_and_sure_of_itself() -> None:
    window = sample(1)
    wrong = Sample(
        window.inputs, window.probabilities, np.where(np.arange(400) < 100, (window.labels + 1) % 3, window.labels), window.review
    )
    assert judged(sample(0), wrong).speaks == {"wrong answers to labelled photos"}


def test_windows_that_were_odd_do_not_speak_when_they_are_over() -> None:
    """With 3 of 5, two odd windows are no alarm, so a third one must not speak because of them. A change that stays does."""
    quiet, odd = [sample(seed) for seed in range(1, 6)], [sample(seed, dark=0.3) for seed in range(6, 9)]
    dark, settings = frozenset({"brightness"}), {"windows": 5, "speaking": 3}
    assert judged_together(sample(0), [quiet[0], odd[0]], **settings).speaks == dark
    assert not judged_together(sample(0), [quiet[0], odd[0], odd[1], quiet[1]], **settings).speaks
    assert not judged_together(sample(0), [odd[0], quiet[0], odd[1], quiet[1], quiet[2]], **settings).speaks
    assert judged_together(sample(0), [*quiet[:2], *odd], **settings).speaks == dark


def wrong(of: Sample, photos: int, labelled: int = 400) -> Sample:
    """With labels of the first ones only, of which some are others than the answer promises."""
    labels = np.where(np.arange(len(of.labels)) < photos, (of.predicted + 1) % 3, of.labels)
    return Sample(of.inputs, of.probabilities, np.where(np.arange(len(labels)) < labelled, labels, UNKNOWN), of.review)


def test_wrong_answers_to_the_photos_of_an_odd_window_do_not_speak_when_it_is_over() -> None:
    name, none = {"wrong answers to labelled photos"}, [wrong(sample(seed), 0, 0) for seed in range(1, 6)]
    odd = [wrong(sample(seed), 100, 100) for seed in range(6, 9)]
    assert judged_together(sample(0), [none[0], odd[0]]).speaks == name
    assert not judged_together(sample(0), [odd[0], odd[1], none[0]]).speaks
    late = judged_together(sample(0), [*odd, *none[:2]])
    assert late.speaks == name, "labels that arrive late count, those of three windows"


def test_a_difference_that_is_sure_and_small_does_not_speak() -> None:
    """Of 20,000 photos nearly every difference is improbable."""
    assert not judged(sample(0, 20_000), sample(1, 20_000, dark=0.01)).speaks


def test_the_endpoint_s_own_trouble_speaks_without_a_baseline() -> None:
    rows = log(
        *(row(number, START, status=429 if number < 2 else 200, milliseconds=100.0 * number) for number in range(10)),
        *(row(10 + number, START, refused="truncated", probabilities=None, status=400) for number in range(4)),
        row(14, START, refused="REQUEST_LIMIT_EXCEEDED", probabilities=None, status=429),
    )
    found = judged(None, sample(1), rows, slow=500.0)
    assert found.speaks == {"refused photos", "requests turned away", "slow answers"}
    assert findings.traffic(rows).milliseconds == pytest.approx(np.quantile(np.arange(200.0, 1000.0, 100.0), [0.5, 0.95, 0.99]))


def test_delay_and_errors_are_those_of_requests_and_refusals_those_of_photos() -> None:
    """A request with eight photos, a refused one with two photos, and two failed ones."""
    failed = dict.fromkeys(("probabilities", "label", "sha256"))
    rows = log(
        *(row(number, START, request_id=f"a/{number}", milliseconds=800.0, review=number < 2) for number in range(8)),
        *(row(10 + number, START, request_id=f"b/{number}", status=400, **failed) for number in range(2)),
        row(20, START, request_id="c", milliseconds=100.0),
        row(21, START, request_id="d", status=500, **failed),
        row(22, START, request_id="e", status=429, **failed),
    ).to_pylist()
    rows[8]["refused"] = "truncated"
    found = findings.traffic(log(*rows))
    assert (found.rows, found.answered, found.refused, found.review) == (13, 9, 0.1, pytest.approx(2 / 9))
    assert (found.errors, found.throttled) == (0.2, 0.2)
    assert found.milliseconds is not None
    assert found.milliseconds[0] == 450.0


def test_answers_ask_for_a_person_as_the_version_s_own_coverage_says() -> None:
    """Whatever the log says of a raised one: 0.8 of minor is within the threshold of the first, and all are within that of the second."""
    rows = log(row(1, START, review=True), row(2, START, review=True))
    sure, careful = (Answering(coverage=0.5, scores=(Nonconformity(9, (0.1,) * 4 + (of,) * 5),) * 3) for of in (0.5, 0.95))
    assert [samples.of_log(rows, CLASSES, {}, of).review.tolist() for of in (None, sure, careful)] == [[True] * 2, [False] * 2, [True] * 2]


def test_a_photo_that_several_windows_have_counts_in_the_latest_of_them() -> None:
    same = {"sha256": "a" * 64}
    windows_ = [log(row(1, START, **same), row(2, START)), log(row(3, START, **same)), log(row(4, START, sha256=None))]
    assert [len(one.labels) for one in samples.of_windows(windows_, CLASSES, {})] == [1, 1, 1]
    assert len(samples.together(samples.of_windows(windows_, CLASSES, {})).labels) == 3


def test_a_version_that_is_worse_needs_the_coverage_at_which_its_sets_have_the_classes_of_its_photos() -> None:
    """A model with 99 calibration photos of each class, whose scores are 0.01 to 0.99: the threshold of a coverage is the coverage."""
    scores = (Nonconformity(99, tuple(np.linspace(0.01, 0.99, 99))),) * 2
    answering = Answering(coverage=0.8, scores=scores)
    # At 0.8, the sets of these photos have the more probable class only: a share of 0.85 of the photos of each class.
    assert needed(answering, np.array([[0.85, 0.15], [0.15, 0.85]])) == 0.81
    # Here it is 0.83 of the first class, and of the second one only 0.5, until 1 - 0.16 is within the threshold.
    doubtful = np.array([[0.84, 0.16], [0.16, 0.84], [0.84, 0.16], [0.84, 0.16]])
    assert needed(answering, doubtful) == 0.84
    assert needed(Answering(coverage=0.985, scores=scores), doubtful) == 0.99


def test_of_a_window_and_of_the_latest_ones_what_is_large_counts_and_then_what_is_less_probable_and_p_is_doubled() -> None:
    large, larger, small = (Drift("size", p, psi, 0.1) for p, psi in ((1e-4, 0.4), (0.2, 0.5), (1e-9, 0.06)))
    for window, recent, counts in ((large, small, large), (larger, large, large), (small, larger, larger), (small, small, small)):
        assert drift.of_either(window, recent, 0.1) == Drift("size", 2 * counts.p, counts.psi, 0.1)
    assert drift.of_either(Drift("size", 0.9, 0.0, 0.1), Drift("size", 0.9, 0.0, 0.1), 0.1).p == 1.0


def test_what_is_slow_and_small_speaks_in_the_latest_windows_together() -> None:
    """A shift of half a standard deviation: 60 photos do not show it, 300 do."""
    days = [sample(seed, 60, dark=0.045) for seed in range(1, 6)]
    together = np.concatenate([day.inputs["brightness"] for day in days])
    reference, last = sample(0, 2_000).inputs["brightness"], days[-1].inputs["brightness"]
    alone, recent = (drift.of_numbers("brightness", reference, of) for of in (last, together))
    assert alone.p > 0.005
    assert recent.p < 1e-6
