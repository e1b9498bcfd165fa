"""Decides whether a version may replace the champion: a pure rule over two sets of predictions for the same test photos.

The rule fails closed: it decides for a candidate only when every condition is met. It returns its numbers as evidence, so that a
person can check the decision, and the same rule can repeat it. It is made for a candidate every night: the confidence that it asks for
rises with the candidates that were judged since the champion was chosen, and photos that the champion was not chosen on count first.
docs/promotion.md has the simulation of 250 nights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from car_damage.data.photos.groups import MIN_PHOTOS, Group
from car_damage.model.quality.evaluation import Labels, mean_recall_of
from car_damage.model.quality.paired import cells_of
from car_damage.pipeline import AWAIT, KEEP, PROMOTE, Evidence, Score
from car_damage.promotion.certainty import ROUNDING, confidence
from car_damage.promotion.evidence import evidence_for
from car_damage.settings import Promotion


@dataclass(frozen=True)
class Answers:
    """What both models say to the same test photos. Class numbers are indices into the settings' classes."""

    truth: Labels
    """(n,)"""
    candidate: Labels
    """(n,)"""
    champion: Labels | None = None
    """(n,); None when there is no champion."""
    fresh: npt.NDArray[np.bool_] | None = None
    """(n,) whether the photo arrived after the champion was chosen; None when that is unknown, or there is no champion."""
    groups: tuple[Group, ...] = ()
    """Groups of these photos."""

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Answers":
        """The answers to some of the photos."""
        champion = None if self.champion is None else self.champion[chosen]
        fresh = None if self.fresh is None else self.fresh[chosen]
        return Answers(self.truth[chosen], self.candidate[chosen], champion, fresh, tuple(group.only(chosen) for group in self.groups))


@dataclass(frozen=True)
class Circumstances:
    """What the rule has to know beside the answers."""

    looks: int = 1
    """Candidates that were judged since the champion was chosen, this one included."""
    lost: tuple[str, ...] = ()
    """Classes that the champion knows and the candidate was trained on no photo of."""
    excluded: int = 0
    """Test photos that were left out, because one of the models was trained on them or on photos that resemble them."""


@dataclass(frozen=True)
class Decision:
    """Promote the candidate, or wait for a person's approval, or keep the champion; with every reason."""

    decision: str
    reasons: tuple[str, ...]
    evidence: Evidence


def decide(answers: Answers, classes: Sequence[str], rule: Promotion, circumstances: Circumstances) -> Decision:
    """Judge a candidate on the test photos.

    Returns:
        `promote` (with `rule.mode` "approval": `await_approval`) only when there are enough test photos of every class, no class is lost,
        no class or group is below its floor, and the candidate is ahead of the champion by `min_gain` with the confidence that this look
        asks for, while its mistakes cost no more than `max_cost_rise` above the champion's. A tie keeps the champion. The first version has
        to be ahead of a model that always says the same class.
    """
    answers = _judged_on(answers, len(classes), rule)
    fresh = None if answers.fresh is None else int(np.count_nonzero(answers.fresh))
    measured = evidence_for(answers.truth, answers.candidate, answers.champion, classes, rule, answers.groups)
    evidence = replace(measured, excluded=circumstances.excluded, looks=circumstances.looks, fresh=fresh)
    against = [
        *_too_few(answers.truth, classes, rule),
        *_lost(circumstances),
        *_below_floor(evidence, rule),
        *_below_group_floor(evidence, rule),
    ]
    if evidence.champion is None or evidence.comparison is None:
        if not against and rule.first_version == "ahead":
            against += _not_ahead_of_a_constant(answers, classes, rule, circumstances)
        return _decision(against, "no version was live before", evidence, rule)
    asked = confidence_asked(rule, circumstances.looks)
    gain, sure = evidence.comparison.gain, evidence.comparison.confidence
    ahead = f"macro-F1 {evidence.candidate.macro_f1:.3f} against the champion's {evidence.champion.macro_f1:.3f}"
    if gain < rule.min_gain or gain <= 0:
        needed = f"{rule.min_gain:+.3f} or more" if rule.min_gain > 0 else "more than that"
        against.append(f"{ahead}: a gain of {gain:+.3f}, and {needed} is needed")
    elif sure < asked:
        against.append(f"{ahead}, but with a confidence of {percent(sure)}; {_asked(asked, circumstances.looks)}")
    against += _dearer(evidence.candidate, evidence.champion, rule)
    return _decision(against, f"{ahead}, with a confidence of {percent(sure)}", evidence, rule)


def confidence_asked(rule: Promotion, looks: int) -> float:
    """The confidence that the candidate of this look must reach.

    The chance of a mistake that the first look has is divided by the number of the look. The sum over K looks bounds the chance that any
    of K candidates that are no better ever goes live, however they depend on each other (alpha spending: Lan & DeMets 1983, Foster &
    Stine 2008; a promotion begins a new series, as in Javanmard & Montanari 2018). It grows only with the logarithm of K, until the
    division ends: no chance below 1 / `rule.resamples` can be shown, and from two of them on every look adds as much.
    """
    return 1 - max((1 - rule.min_confidence) / looks, 2 / (1 + rule.resamples))


def percent(share: float) -> str:
    """A confidence with as many digits as tell it from 1: 80%, 99%, 99.20%, 99.992%."""
    digits = 0 if share <= 0.99 else min(3, int(-np.log10(1 - share)))
    return f"{np.floor(share * 10 ** (2 + digits) + ROUNDING) / 10**digits:.{digits}f}%"


def _decision(against: list[str], in_favour: str, evidence: Evidence, rule: Promotion) -> Decision:
    if against:
        return Decision(KEEP, tuple(against), evidence)
    return Decision(AWAIT if rule.mode == "approval" else PROMOTE, (in_favour,), evidence)


def _judged_on(answers: Answers, classes: int, rule: Promotion) -> Answers:
    """The fresh photos as soon as they are enough and the majority.

    The champion was lucky on the photos that it was chosen on. That luck protects it, so it does harm only as long as
    these photos are the majority, and a few fresh photos are worth less than all.
    """
    if answers.fresh is None or 2 * np.count_nonzero(answers.fresh) < len(answers.truth):
        return answers
    fresh = answers.only(answers.fresh)
    numbers = np.bincount(fresh.truth, minlength=classes)
    enough = len(fresh.truth) >= rule.min_test_photos and numbers.min() >= rule.min_test_photos_per_class
    return fresh if enough else answers


def _too_few(truth: Labels, classes: Sequence[str], rule: Promotion) -> list[str]:
    few = []
    if len(truth) < rule.min_test_photos:
        few.append(f"{len(truth)} test photos are too few to judge on; {rule.min_test_photos} are needed")
    for name, photos in zip(classes, np.bincount(truth, minlength=len(classes)), strict=True):
        if photos < rule.min_test_photos_per_class:
            few.append(f"test photos of {name}: {photos}; {rule.min_test_photos_per_class} are needed")
    return few


def _lost(circumstances: Circumstances) -> list[str]:
    return [f"the champion knows {name}, and this version was trained on no photo of it" for name in circumstances.lost]


def _below_floor(evidence: Evidence, rule: Promotion) -> list[str]:
    """A class without a test photo has no recall; `_too_few` speaks of it."""
    recalls = [(name, evidence.candidate.recall[name], floor) for name, floor in rule.recall_floor.items()]
    return [f"recall of {name} is {has:.2f}; {floor:.2f} is needed" for name, has, floor in recalls if has is not None and has < floor]


def _below_group_floor(evidence: Evidence, rule: Promotion) -> list[str]:
    if not rule.group_floor:
        return []
    if (worst := evidence.worst_group) is None:
        return [
            f"no group of test photos has {MIN_PHOTOS}, so no macro-F1 can be held against promotion.group_floor = {rule.group_floor:g}"
        ]
    if (score := evidence.candidate.groups[worst]) >= rule.group_floor:
        return []
    return [f"macro-F1 of group {worst} ({evidence.groups[worst]} test photos) is {score:.3f}; {rule.group_floor:.3f} is needed"]


def _not_ahead_of_a_constant(answers: Answers, classes: Sequence[str], rule: Promotion, circumstances: Circumstances) -> list[str]:
    """Mean recall, because a model that guesses at random has a higher macro-F1 than one that always says the same class."""
    constant = np.full_like(answers.truth, np.bincount(answers.truth).argmax())
    cells = cells_of(answers.truth, answers.candidate, constant, len(classes))
    sure, asked = confidence(cells, mean_recall_of, rule.resamples, rule.seed), confidence_asked(rule, circumstances.looks)
    if sure >= asked:
        return []
    always = classes[constant[0]]
    return [f"it is ahead of always saying {always} with a confidence of {percent(sure)}; {_asked(asked, circumstances.looks)}"]


def _asked(confidence_needed: float, looks: int) -> str:
    if looks == 1:
        return f"{percent(confidence_needed)} is needed"
    return f"{percent(confidence_needed)} is needed of candidate {looks} since the champion was chosen"


def _dearer(candidate: Score, champion: Score, rule: Promotion) -> list[str]:
    """Macro-F1 weighs all mistakes alike, but to underrate a damage may cost far more than to overrate it."""
    if candidate.cost is None or champion.cost is None or candidate.cost <= champion.cost + rule.max_cost_rise + ROUNDING:
        return []
    return [
        f"its mistakes cost {candidate.cost:.3f} a photo, the champion's {champion.cost:.3f}; a rise of {rule.max_cost_rise:.3f} is allowed"
    ]
