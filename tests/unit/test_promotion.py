import dataclasses

import numpy as np
import pytest

from car_damage.pipeline import AWAIT, KEEP, PROMOTE
from car_damage.promotion.rule import Decision, decide
from car_damage.settings import Promotion

CLASSES = ("minor", "moderate", "major")
RULE = Promotion(min_gain=0.02, min_confidence=0.9, min_test_photos=30, recall_floor={"major": 0.5}, resamples=500)
TRUTH = np.arange(90) % 3


def answers(right: float, seed: int = 1) -> np.ndarray:
    """Each answer is right with this probability; otherwise it is the next class."""
    wrong = np.random.default_rng(seed).random(len(TRUTH)) >= right
    return (TRUTH + wrong) % 3


def judge(candidate: np.ndarray, champion: np.ndarray | None, rule: Promotion = RULE, truth: np.ndarray = TRUTH) -> Decision:
    return decide(truth, candidate, champion, CLASSES, rule)


def test_the_first_model_is_promoted() -> None:
    judged = judge(answers(0.9), None)
    assert judged.decision == PROMOTE
    assert judged.reasons == ("no version was live before",)
    assert judged.evidence.champion is None


def test_a_first_model_below_a_floor_is_not_promoted() -> None:
    never_major = np.where(TRUTH == 2, 1, TRUTH)
    judged = judge(never_major, None)
    assert judged.decision == KEEP
    assert "recall of major is 0.00; 0.50 is needed" in judged.reasons


def test_a_clearly_better_model_is_promoted_with_its_numbers() -> None:
    judged = judge(answers(0.95), answers(0.6, seed=2))
    assert judged.decision == PROMOTE
    assert judged.evidence.comparison.gain > 0.2
    low, high = judged.evidence.comparison.interval
    assert low < judged.evidence.comparison.gain < high


def test_a_worse_model_is_kept_out() -> None:
    judged = judge(answers(0.6), answers(0.95, seed=2))
    assert judged.decision == KEEP
    assert "is needed" in judged.reasons[0]


def test_a_tie_keeps_the_champion_even_when_no_gain_is_asked_for() -> None:
    same = answers(0.8)
    rule = RULE.model_copy(update={"min_gain": 0.0, "min_confidence": 0.5})
    assert judge(same, same.copy(), rule).decision == KEEP


def test_a_gain_on_too_few_test_photos_says_nothing() -> None:
    few = slice(0, 12)
    judged = judge(TRUTH[few], answers(0.3)[few], truth=TRUTH[few])
    assert judged.decision == KEEP
    assert judged.reasons == ("12 test photos are too few to compare on; 30 are needed",)


def test_a_gain_that_the_resamples_do_not_bear_out_is_kept_out() -> None:
    champion = TRUTH.copy()
    champion[:6] = (TRUTH[:6] + 1) % 3
    candidate = TRUTH.copy()
    candidate[10:14] = (TRUTH[10:14] + 1) % 3
    judged = judge(candidate, champion, RULE.model_copy(update={"min_gain": 0.001, "min_confidence": 0.99}))
    assert judged.decision == KEEP
    assert "of the resamples" in judged.reasons[0]


def test_a_better_model_below_a_class_floor_is_kept_out() -> None:
    candidate = TRUTH.copy()
    candidate[TRUTH == 2] = np.where(np.arange(30) < 20, 1, 2)
    judged = judge(candidate, answers(0.3, seed=3))
    assert judged.decision == KEEP
    assert judged.reasons == ("recall of major is 0.33; 0.50 is needed",)


def test_a_class_without_a_test_photo_does_not_reach_its_floor() -> None:
    two = TRUTH[TRUTH < 2]
    judged = judge(two.copy(), None, truth=two)
    assert judged.decision == KEEP
    assert "no test photo is major" in judged.reasons[0]


def test_no_test_photo_at_all_promotes_nobody() -> None:
    nothing = TRUTH[:0]
    assert judge(nothing, None, RULE.model_copy(update={"recall_floor": {}}), nothing).decision == KEEP
    assert judge(nothing, nothing, truth=nothing).decision == KEEP


def test_the_same_question_gets_the_same_answer() -> None:
    first, second = (judge(answers(0.8), answers(0.7, seed=2)) for _ in range(2))
    assert dataclasses.asdict(first) == dataclasses.asdict(second)


def test_the_confidence_is_paired_so_that_a_small_but_consistent_gain_counts() -> None:
    """The candidate corrects six of the champion's mistakes and adds none: every resample with one of them is a gain."""
    champion = answers(0.7)
    candidate = champion.copy()
    mended = np.flatnonzero(champion != TRUTH)[:6]
    candidate[mended] = TRUTH[mended]
    judged = judge(candidate, champion)
    assert judged.evidence.comparison.confidence == pytest.approx(1.0, abs=0.01)
    assert judged.decision == PROMOTE


def test_a_tie_of_different_mistakes_keeps_the_champion_however_the_resamples_fall() -> None:
    """The models are wrong on different photos, equally many per class: the whole test set is a tie, its resamples are not."""
    candidate, champion = TRUTH.copy(), TRUTH.copy()
    for number in range(36):
        changed = candidate if number % 6 < 3 else champion
        changed[number] = (TRUTH[number] + 1) % 3
    rule = RULE.model_copy(update={"min_gain": 0.0, "min_confidence": 0.5})
    judged = [judge(candidate, champion, rule.model_copy(update={"seed": seed})) for seed in range(8)]
    assert {one.evidence.comparison.gain for one in judged} == {0.0}
    assert max(one.evidence.comparison.confidence or 0.0 for one in judged) >= 0.5
    assert {one.decision for one in judged} == {KEEP}


def test_with_approval_a_version_that_meets_the_rule_waits_for_a_person_and_another_one_is_kept_out_as_ever() -> None:
    rule = RULE.model_copy(update={"mode": "approval"})
    assert judge(answers(0.95), answers(0.6, seed=2), rule).decision == AWAIT
    assert judge(answers(0.9), None, rule).decision == AWAIT
    assert judge(answers(0.6), answers(0.95, seed=2), rule).decision == KEEP


def with_mistakes(truth_of: int, said: int, number: int) -> np.ndarray:
    """All answers are right, except for this number of photos of one class."""
    given = TRUTH.copy()
    given[np.flatnonzero(truth_of == TRUTH)[:number]] = said
    return given


def test_a_better_model_whose_mistakes_cost_more_is_kept_out() -> None:
    """It corrects ten harmless mistakes and misses three wrecks."""
    candidate, champion = with_mistakes(2, 0, 3), with_mistakes(0, 1, 10)
    judged = judge(candidate, champion)
    assert judged.evidence.candidate.macro_f1 > judged.evidence.champion.macro_f1 + 0.02  # type: ignore[operator]
    assert (judged.evidence.candidate.cost, judged.evidence.champion.cost) == pytest.approx((30 / 90, 10 / 90))
    assert judged.decision == KEEP
    assert judged.reasons == ("its mistakes cost 0.333 a photo, the champion's 0.111; a rise of 0.000 is allowed",)


def test_costs_and_the_rise_that_is_allowed_are_settings() -> None:
    candidate, champion = with_mistakes(2, 0, 3), with_mistakes(0, 1, 10)
    assert judge(candidate, champion, RULE.model_copy(update={"costs": {}})).decision == PROMOTE
    assert judge(candidate, champion, RULE.model_copy(update={"max_cost_rise": 0.25})).decision == PROMOTE


def test_a_mistake_that_is_not_listed_costs_one_and_a_right_answer_nothing() -> None:
    rule = RULE.model_copy(update={"costs": {"major": {"minor": 7.0}}})
    assert judge(with_mistakes(0, 2, 9), None, rule).evidence.candidate.cost == pytest.approx(9 / 90)
    assert judge(TRUTH.copy(), None, rule).evidence.candidate.cost == 0.0
