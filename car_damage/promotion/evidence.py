"""The numbers behind a decision: both models' scores on the same photos, and how certain the difference is."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from car_damage.data.photos.groups import Group
from car_damage.model.quality.evaluation import Labels, confusion_matrix, counts_of, macro_f1, macro_f1_of
from car_damage.model.quality.paired import cells_of, intervals
from car_damage.pipeline import Comparison, Evidence, Score
from car_damage.promotion.certainty import confidence
from car_damage.settings import Promotion

Confusion = npt.NDArray[np.int64]
"""(classes, classes) photos by true class (row) and predicted class (column)."""


def evidence_for(  # noqa: PLR0917 - the answers, and what they are judged by
    truth: Labels,
    candidate: Labels,
    champion: Labels | None,
    classes: Sequence[str],
    rule: Promotion,
    groups: Sequence[Group] = (),
) -> Evidence:
    """Score the candidate and compare it with the champion. Each array is (n,). Without a champion or photos nothing is compared."""
    if not len(truth):
        return Evidence(0, _score(truth, candidate, classes, rule, None))
    groups = [group for group in groups if group.is_large_enough]
    photos = {group.name: len(group) for group in groups}
    cells = cells_of(truth, candidate, candidate if champion is None else champion, len(classes))
    spread = intervals(cells, macro_f1_of, rule.seed)
    mine = _score(truth, candidate, classes, rule, spread.candidate, groups)
    if champion is None:
        return Evidence(len(truth), mine, groups=photos)
    theirs = _score(truth, champion, classes, rule, spread.champion, groups)
    sure = confidence(cells, macro_f1_of, rule.resamples, rule.seed)
    return Evidence(len(truth), mine, theirs, Comparison(mine.macro_f1 - theirs.macro_f1, sure, spread.gain), groups=photos)


def costs(classes: Sequence[str], given: Mapping[str, Mapping[str, float]]) -> npt.NDArray[np.float64]:
    """The cost of each mistake as a matrix, (classes, classes): rows are the true classes. A mistake that is not in `given` costs 1."""
    return np.array([[0.0 if truth == said else given.get(truth, {}).get(said, 1.0) for said in classes] for truth in classes])


def _score(  # noqa: PLR0917 - a model's answers, and what they are judged by
    truth: Labels,
    predicted: Labels,
    classes: Sequence[str],
    rule: Promotion,
    interval: tuple[float, float] | None,
    groups: Sequence[Group] = (),
) -> Score:
    confusion = confusion_matrix(truth, predicted, len(classes))
    return Score(
        macro_f1=float(macro_f1_of(counts_of(confusion))),
        recall=_recall(confusion, classes),
        confusion=confusion.tolist(),
        cost=float((confusion * costs(classes, rule.costs)).sum() / max(confusion.sum(), 1)),
        interval=interval,
        groups={group.name: macro_f1(truth[group.rows], predicted[group.rows], len(classes)) for group in groups},
    )


def _recall(confusion: Confusion, classes: Sequence[str]) -> dict[str, float | None]:
    support = confusion.sum(axis=1)
    return {name: float(confusion[i, i] / support[i]) if support[i] else None for i, name in enumerate(classes)}
