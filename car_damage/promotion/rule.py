"""Decides whether a version may replace the champion: a pure rule over two sets of predictions for the same test photos.

The rule fails closed: it decides for a candidate only when every condition is met. It returns its numbers as evidence, so that a
person can check the decision, and the same rule can repeat it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from car_damage.model.evaluation import confusion_matrix, macro_f1, macro_f1_of_resamples
from car_damage.pipeline import AWAIT, KEEP, PROMOTE, Comparison, Evidence, Score
from car_damage.settings import Promotion

Labels = npt.NDArray[np.int64]

_ROUNDING = 1e-9
"""Largest difference between two sums of the same costs."""


@dataclass(frozen=True)
class Decision:
    """Promote the candidate, or wait for a person's approval, or keep the champion; with every reason."""

    decision: str
    reasons: tuple[str, ...]
    evidence: Evidence


def decide(truth: Labels, candidate: Labels, champion: Labels | None, classes: Sequence[str], rule: Promotion) -> Decision:
    """Judge a candidate on the test photos.

    Args:
        truth: (n,) the photos' classes, as indices into `classes`.
        candidate: (n,) the candidate's predictions for the same photos, in the same order.
        champion: (n,) the champion's predictions; None when there is no champion.
        classes: the classes' names.
        rule: the thresholds.

    Returns:
        `promote` (with `rule.mode` "approval": `await_approval`) only when no class is below its floor and either
        nothing is live yet, or the candidate is ahead by `min_gain` with `min_confidence` on at least
        `min_test_photos` and its mistakes cost no more than `max_cost_rise` above the champion's. A tie keeps the champion.
    """
    evidence = _evidence(truth, candidate, champion, classes, rule)
    against = _below_floor(evidence, rule)
    if not len(truth):
        against.append("there is no test photo to judge it on")
    if evidence.champion is None or evidence.comparison is None:
        return _decision(against, "no version was live before", evidence, rule)
    gain, confidence = evidence.comparison.gain, evidence.comparison.confidence
    ahead = f"macro-F1 {evidence.candidate.macro_f1:.3f} against the champion's {evidence.champion.macro_f1:.3f}"
    if len(truth) < rule.min_test_photos:
        against.append(f"{len(truth)} test photos are too few to compare on; {rule.min_test_photos} are needed")
    if gain < rule.min_gain or gain <= 0:
        needed = f"{rule.min_gain:+.3f} or more" if rule.min_gain > 0 else "more than that"
        against.append(f"{ahead}: a gain of {gain:+.3f}, and {needed} is needed")
    elif confidence < rule.min_confidence:
        against.append(f"{ahead}, but ahead in only {confidence:.0%} of the resamples; {rule.min_confidence:.0%} are needed")
    against += _dearer(evidence.candidate, evidence.champion, rule)
    return _decision(against, f"{ahead}, ahead in {confidence:.0%} of the resamples", evidence, rule)


def _decision(against: list[str], in_favour: str, evidence: Evidence, rule: Promotion) -> Decision:
    if against:
        return Decision(KEEP, tuple(against), evidence)
    return Decision(AWAIT if rule.mode == "approval" else PROMOTE, (in_favour,), evidence)


def _dearer(candidate: Score, champion: Score, rule: Promotion) -> list[str]:
    """Macro-F1 weighs all mistakes alike, but to underrate a damage may cost far more than to overrate it."""
    if candidate.cost is None or champion.cost is None or candidate.cost <= champion.cost + rule.max_cost_rise + _ROUNDING:
        return []
    return [
        f"its mistakes cost {candidate.cost:.3f} a photo, the champion's {champion.cost:.3f}; a rise of {rule.max_cost_rise:.3f} is allowed"
    ]


def _below_floor(evidence: Evidence, rule: Promotion) -> list[str]:
    """A class without a test photo has no recall, so it does not reach a floor above zero."""
    below = []
    for name, floor in rule.recall_floor.items():
        recall = evidence.candidate.recall[name]
        if recall is None and floor > 0:
            below.append(f"no test photo is {name}, so its recall is unknown; {floor:.2f} is needed")
        elif recall is not None and recall < floor:
            below.append(f"recall of {name} is {recall:.2f}; {floor:.2f} is needed")
    return below


def _evidence(truth: Labels, candidate: Labels, champion: Labels | None, classes: Sequence[str], rule: Promotion) -> Evidence:
    score = _score(truth, candidate, classes, rule)
    if champion is None or not len(truth):
        return Evidence(len(truth), score)
    before = _score(truth, champion, classes, rule)
    gains = _paired_gains(truth, candidate, champion, len(classes), rule)
    low, high = (float(quantile) for quantile in np.quantile(gains, [0.025, 0.975]))
    return Evidence(len(truth), score, before, Comparison(score.macro_f1 - before.macro_f1, float(np.mean(gains > 0)), (low, high)))


def _score(truth: Labels, predicted: Labels, classes: Sequence[str], rule: Promotion) -> Score:
    confusion = confusion_matrix(truth, predicted, len(classes))
    return Score(
        macro_f1=macro_f1(truth, predicted, len(classes)),
        recall=_recall(confusion, classes),
        confusion=confusion.tolist(),
        cost=_cost(confusion, classes, rule),
    )


def _paired_gains(truth: Labels, candidate: Labels, champion: Labels, classes: int, rule: Promotion) -> npt.NDArray[np.float64]:
    """The paired bootstrap (Efron & Tibshirani 1993, ch. 8): both models on the same resampled photos, so that what
    is hard for both cancels out. Returns (resamples,) gains.
    """
    indices = np.random.default_rng(rule.seed).integers(0, len(truth), size=(rule.resamples, len(truth)))
    return macro_f1_of_resamples(truth, candidate, indices, classes) - macro_f1_of_resamples(truth, champion, indices, classes)


def _cost(confusion: npt.NDArray[np.int64], classes: Sequence[str], rule: Promotion) -> float:
    """Mean cost of a test photo; 0.0 without any."""
    costs = [[0.0 if truth == said else rule.costs.get(truth, {}).get(said, 1.0) for said in classes] for truth in classes]
    return float((confusion * np.array(costs)).sum() / max(confusion.sum(), 1))


def _recall(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> dict[str, float | None]:
    support = confusion.sum(axis=1)
    return {name: float(confusion[i, i] / support[i]) if support[i] else None for i, name in enumerate(classes)}
