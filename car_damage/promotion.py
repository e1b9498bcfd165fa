"""May this version replace the champion? A pure rule over two sets of predictions for the same test photos.

The rule fails closed: it speaks for a candidate only when everything it asks for is there. What it looked at is
kept as evidence, so that a person, or the same rule at another time, can follow it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from car_damage.evaluation import confusion_matrix, macro_f1, macro_f1_of_resamples
from car_damage.settings import Promotion

PROMOTE = "promote"
KEEP = "keep"
DECISIONS = (PROMOTE, KEEP)

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """The numbers behind a decision. Champion's are None where there is no champion."""

    test_photos: int
    candidate_macro_f1: float
    champion_macro_f1: float | None
    gain: float | None
    """Candidate's macro-F1 less the champion's, on the same photos."""
    confidence: float | None
    """Share of paired bootstrap resamples in which the candidate is ahead."""
    gain_interval: tuple[float, float] | None
    """2.5 and 97.5 percent quantiles of the gain over the resamples."""
    candidate_recall: dict[str, float | None]
    """Class -> recall; None for a class without a test photo."""
    champion_recall: dict[str, float | None] | None
    candidate_confusion: list[list[int]]
    """Photos by true class (row) and predicted class (column)."""
    champion_confusion: list[list[int]] | None

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "gain_interval": list(self.gain_interval) if self.gain_interval else None}


@dataclass(frozen=True)
class Decision:
    """Promote the candidate or keep what is live, with every reason for it."""

    decision: str
    reasons: tuple[str, ...]
    evidence: Evidence


def decide(truth: Labels, candidate: Labels, champion: Labels | None, classes: Sequence[str], rule: Promotion) -> Decision:
    """Judge a candidate on the test photos.

    Args:
        truth: (n,) the photos' classes, as indices into `classes`.
        candidate: (n,) what the candidate predicts for the same photos, in the same order.
        champion: (n,) what the champion predicts for them; None when there is none.
        classes: the classes' names.
        rule: the thresholds.

    Returns:
        `promote` only when no class is below its floor and either nothing is live yet, or the candidate is ahead
        by `min_gain` with `min_confidence` on at least `min_test_photos`. A tie keeps the champion.
    """
    evidence = _evidence(truth, candidate, champion, classes, rule)
    against = _below_floor(evidence, rule)
    if not len(truth):
        against.append("there is no test photo to judge it on")
    if evidence.gain is None or evidence.confidence is None:
        return _decision(against, "no version is live yet", evidence)
    ahead = f"macro-F1 {evidence.candidate_macro_f1:.3f} against the champion's {evidence.champion_macro_f1:.3f}"
    if len(truth) < rule.min_test_photos:
        against.append(f"{len(truth)} test photos are too few to compare on; {rule.min_test_photos} are needed")
    if evidence.gain < rule.min_gain or evidence.gain <= 0:
        against.append(f"{ahead}: a gain of {evidence.gain:+.3f}, and {rule.min_gain:+.3f} or more is needed")
    elif evidence.confidence < rule.min_confidence:
        against.append(f"{ahead}, but ahead in only {evidence.confidence:.0%} of the resamples; {rule.min_confidence:.0%} are needed")
    return _decision(against, f"{ahead}, ahead in {evidence.confidence:.0%} of the resamples", evidence)


def _decision(against: list[str], in_favour: str, evidence: Evidence) -> Decision:
    return Decision(KEEP, tuple(against), evidence) if against else Decision(PROMOTE, (in_favour,), evidence)


def _below_floor(evidence: Evidence, rule: Promotion) -> list[str]:
    """A class without a test photo has shown nothing, so it does not reach a floor above zero."""
    below = []
    for name, floor in rule.recall_floor.items():
        recall = evidence.candidate_recall[name]
        if recall is None and floor > 0:
            below.append(f"no test photo is {name}, so its recall is unknown; {floor:.2f} is needed")
        elif recall is not None and recall < floor:
            below.append(f"recall of {name} is {recall:.2f}; {floor:.2f} is needed")
    return below


def _evidence(truth: Labels, candidate: Labels, champion: Labels | None, classes: Sequence[str], rule: Promotion) -> Evidence:
    confusion = confusion_matrix(truth, candidate, len(classes))
    score = macro_f1(truth, candidate, len(classes))
    if champion is None or not len(truth):
        return Evidence(len(truth), score, None, None, None, None, _recall(confusion, classes), None, confusion.tolist(), None)
    champion_confusion = confusion_matrix(truth, champion, len(classes))
    champion_score = macro_f1(truth, champion, len(classes))
    gains = _paired_gains(truth, candidate, champion, len(classes), rule)
    low, high = (float(quantile) for quantile in np.quantile(gains, [0.025, 0.975]))
    return Evidence(
        test_photos=len(truth),
        candidate_macro_f1=score,
        champion_macro_f1=champion_score,
        gain=score - champion_score,
        confidence=float(np.mean(gains > 0)),
        gain_interval=(low, high),
        candidate_recall=_recall(confusion, classes),
        champion_recall=_recall(champion_confusion, classes),
        candidate_confusion=confusion.tolist(),
        champion_confusion=champion_confusion.tolist(),
    )


def _paired_gains(truth: Labels, candidate: Labels, champion: Labels, classes: int, rule: Promotion) -> npt.NDArray[np.float64]:
    """The paired bootstrap (Efron & Tibshirani 1993, ch. 8): both models on the same resampled photos, so that what
    is hard for both cancels out. Returns (resamples,) gains.
    """
    indices = np.random.default_rng(rule.seed).integers(0, len(truth), size=(rule.resamples, len(truth)))
    return macro_f1_of_resamples(truth, candidate, indices, classes) - macro_f1_of_resamples(truth, champion, indices, classes)


def _recall(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> dict[str, float | None]:
    support = confusion.sum(axis=1)
    return {name: float(confusion[i, i] / support[i]) if support[i] else None for i, name in enumerate(classes)}
