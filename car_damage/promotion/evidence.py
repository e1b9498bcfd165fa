"""The numbers behind a decision: both models' scores on the same photos, and how certain the difference is."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from car_damage.model.evaluation import Labels, confusion_matrix, counts_of, macro_f1_of
from car_damage.pipeline import Comparison, Evidence, Score
from car_damage.promotion.certainty import cells_of, confidence, intervals
from car_damage.settings import Promotion

Confusion = npt.NDArray[np.int64]
"""(classes, classes) photos by true class (row) and predicted class (column)."""


def evidence_for(truth: Labels, candidate: Labels, champion: Labels | None, classes: Sequence[str], rule: Promotion) -> Evidence:
    """Score the candidate and compare it with the champion. Each array is (n,). Without a champion or photos nothing is compared."""
    if not len(truth):
        return Evidence(0, _score(truth, candidate, classes, rule, None))
    cells = cells_of(truth, candidate, candidate if champion is None else champion, len(classes))
    spread = intervals(cells, macro_f1_of, rule.seed)
    mine = _score(truth, candidate, classes, rule, spread.candidate)
    if champion is None:
        return Evidence(len(truth), mine)
    theirs = _score(truth, champion, classes, rule, spread.champion)
    sure = confidence(cells, macro_f1_of, rule.resamples, rule.seed)
    return Evidence(len(truth), mine, theirs, Comparison(mine.macro_f1 - theirs.macro_f1, sure, spread.gain))


def _score(truth: Labels, predicted: Labels, classes: Sequence[str], rule: Promotion, interval: tuple[float, float] | None) -> Score:
    confusion = confusion_matrix(truth, predicted, len(classes))
    return Score(
        macro_f1=float(macro_f1_of(counts_of(confusion))),
        recall=_recall(confusion, classes),
        confusion=confusion.tolist(),
        cost=_cost(confusion, classes, rule),
        interval=interval,
    )


def _cost(confusion: Confusion, classes: Sequence[str], rule: Promotion) -> float:
    """Mean cost of a test photo; 0.0 without any."""
    costs = [[0.0 if truth == said else rule.costs.get(truth, {}).get(said, 1.0) for said in classes] for truth in classes]
    return float((confusion * np.array(costs)).sum() / max(confusion.sum(), 1))


def _recall(confusion: Confusion, classes: Sequence[str]) -> dict[str, float | None]:
    support = confusion.sum(axis=1)
    return {name: float(confusion[i, i] / support[i]) if support[i] else None for i, name in enumerate(classes)}
