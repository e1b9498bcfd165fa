"""Nights of the promotion rule with models whose true quality is known.

A model is right on a photo with a known probability. What one model finds hard the other one finds hard, too, as much as `likeness` says: 0
is two models that have nothing in common, and 0.9 the usual case: the same network trained again on nearly the same photos, which
gives the same answer to four photos in five. Every night has one candidate. The test photos stay the same, or new ones
arrive each night.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from car_damage.model.quality.evaluation import Labels, macro_f1, macro_f1_of
from car_damage.model.quality.paired import cells_of
from car_damage.promotion.certainty import confidence
from car_damage.promotion.rule import Answers, Circumstances, Decision, confidence_asked, decide
from car_damage.settings import Promotion

CLASSES = ("minor", "moderate", "major")
NIGHTS = 250
RULE = Promotion()
GOOD = 0.75
"""How often a champion is right, and so its macro-F1, because all classes and all mistakes are alike."""
BETTER = 0.05
"""By how much a better candidate is right more often, and a worse one less often."""


@dataclass(frozen=True)
class Place:
    """A set of test photos over the nights."""

    photos: int
    """Of the first night."""
    arriving: int
    """Photos that arrive each night."""
    likeness: float
    """Of any two models."""


@dataclass(eq=False)
class Model:
    """A model with its answers to all test photos so far."""

    good: float
    """How often it is right."""
    answers: Labels


class TestPhotos:
    """Test photos of three classes in equal numbers, and models that answer them."""

    __test__ = False  # no test of pytest

    def __init__(self, photos: int, likeness: float, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.likeness = likeness
        self.truth = np.zeros(0, np.int64)
        self._difficulty = np.zeros(0)
        self._confused_with = np.zeros(0, np.int64)
        self.arrive(photos)

    def arrive(self, photos: int) -> None:
        """New photos. Each has a difficulty, and a class that most models confuse it with."""
        start = len(self.truth)
        self.truth = np.append(self.truth, np.arange(start, start + photos) % 3)
        self._difficulty = np.append(self._difficulty, self.random.normal(size=photos))
        self._confused_with = np.append(self._confused_with, self.random.integers(1, 3, photos))

    def model(self, good: float) -> Model:
        return self.asked(Model(good, self.truth[:0]))

    def asked(self, model: Model) -> Model:
        """The model after it has answered the photos that have arrived, too. A model never changes an answer."""
        new = slice(len(model.answers), None)
        photos = len(self.truth[new])
        surprise = self.random.normal(size=photos)
        effort = np.sqrt(self.likeness) * self._difficulty[new] + np.sqrt(1 - self.likeness) * surprise
        wrong = effort >= NormalDist().inv_cdf(model.good)
        usual, other = self._confused_with[new], 3 - self._confused_with[new]
        mistake = np.where(self.random.random(photos) < 0.7, usual, other)
        model.answers = np.append(model.answers, (self.truth[new] + wrong * mistake) % 3)
        return model


def chances(place: Place, better: float, nights: Sequence[int], runs: int) -> npt.NDArray[np.float64]:
    """(runs, nights) the chance that a candidate that is no better than the champion gains as much as the night's; 1 without a gain.

    Args:
        place: where they are judged.
        better: by how much the candidates are right more often than the champion.
        nights: those that are judged, from 1. All have the same champion, which luck has not chosen.
        runs: independent series of nights.
    """
    found = np.ones((runs, len(nights)))
    for run in range(runs):
        here = TestPhotos(place.photos, place.likeness, seed=run)
        champion = here.model(GOOD)
        for column, night in enumerate(nights):
            here.arrive(place.photos + place.arriving * (night - 1) - len(here.truth))
            found[run, column] = _chance(here, here.model(GOOD + better), here.asked(champion))
    return found


def _chance(here: TestPhotos, candidate: Model, champion: Model) -> float:
    if _gain(here.truth, candidate.answers, champion.answers) < RULE.min_gain:
        return 1.0
    return 1 - confidence(cells_of(here.truth, candidate.answers, champion.answers, 3), macro_f1_of, RULE.resamples, RULE.seed)


def _gain(truth: Labels, candidate: Labels, champion: Labels) -> float:
    return macro_f1(truth, candidate, 3) - macro_f1(truth, champion, 3)


def goes_live(found: npt.NDArray[np.float64], nights: Sequence[int], rule: Promotion, counted: bool = True) -> npt.NDArray[np.bool_]:
    """(runs, nights) whether the rule would take the candidate live, in a series of looks that began on night 1."""
    asked = np.array([confidence_asked(rule, night if counted else 1) for night in nights])
    return found <= 1 - asked + 1e-12


class Series:
    """Nights with promotions: each new champion was chosen on the photos of its night, and the looks begin again."""

    def __init__(self, place: Place, rule: Promotion, seed: int, counted: bool = True) -> None:
        """`counted` False: every look is the first, and no photo is fresh."""
        self.place = place
        self.here = TestPhotos(place.photos, place.likeness, seed)
        self.champion = self.here.model(GOOD)
        self.rule, self.counted = rule, counted
        self.looks = self.promotions = 0
        self.seen = place.photos
        """Test photos that were there when the champion was chosen."""

    def night(self, better: float = 0.0) -> bool:
        """Whether a candidate that is better than the champion by so much goes live. Photos arrive before all nights but the first."""
        if self.looks or self.promotions:
            self.here.arrive(self.place.arriving)
        self.looks += 1
        candidate = self.here.model(self.champion.good + better)
        if not self._judged(candidate, self.here.asked(self.champion)):
            return False
        self.champion, self.seen, self.looks, self.promotions = candidate, len(self.here.truth), 0, self.promotions + 1
        return True

    def shown(self) -> float:
        """Macro-F1 of the champion, as the evidence of tonight shows it."""
        judged = self._decision(self.champion, self.here.asked(self.champion))
        assert judged.evidence.champion is not None
        return judged.evidence.champion.macro_f1

    def _judged(self, candidate: Model, champion: Model) -> bool:
        """Without a gain on all photos or on the fresh ones the rule keeps the champion, and its evidence need not be computed."""
        gains = [_gain(self.here.truth[since:], candidate.answers[since:], champion.answers[since:]) for since in (0, self.seen)]
        return max(gains) >= self.rule.min_gain and self._decision(candidate, champion).decision == "promote"

    def _decision(self, candidate: Model, champion: Model) -> Decision:
        fresh = np.arange(len(self.here.truth)) >= self.seen
        answers = Answers(self.here.truth, candidate.answers, champion.answers, fresh if self.counted else None)
        return decide(answers, CLASSES, self.rule, Circumstances(max(self.looks, 1) if self.counted else 1))


@dataclass(frozen=True)
class Ending:
    """What many series of nights with equally good candidates ended with."""

    promotions: float
    """A series, on average."""
    error: float
    """Shown macro-F1 of the champion less the true one, on average."""
    power: float
    """Share of the series in which one more candidate, five points better, goes live in its night."""


def ending(place: Place, rule: Promotion, counted: bool, runs: int) -> Ending:
    """Series of 250 nights whose candidates are as good as the champion of the night."""
    promotions, errors, power = [], [], []
    for run in range(runs):
        series = Series(place, rule, run, counted)
        for _ in range(NIGHTS):
            series.night()
        promotions.append(series.promotions)
        errors.append(series.shown() - GOOD)
        power.append(series.night(better=BETTER))
    return Ending(float(np.mean(promotions)), float(np.mean(errors)), float(np.mean(power)))
