import dataclasses
from typing import Any

import numpy as np
import pytest

from car_damage.data.photos.groups import MIN_PHOTOS, Group
from car_damage.pipeline import AWAIT, KEEP, PROMOTE
from car_damage.promotion.rule import Answers, Circumstances, Decision, confidence_asked, decide, percent
from car_damage.settings import Promotion

CLASSES = ("minor", "moderate", "major")
RULE = Promotion(min_gain=0.02, min_confidence=0.9, min_test_photos=30, recall_floor={"major": 0.5}, resamples=500)
TRUTH = np.arange(90) % 3


def answers(right: float, seed: int = 1) -> np.ndarray:
    """Each answer is right with this probability; otherwise it is the next class."""
    wrong = np.random.default_rng(seed).random(len(TRUTH)) >= right
    return (TRUTH + wrong) % 3


def judge(
    candidate: np.ndarray,
    champion: np.ndarray | None,
    rule: Promotion = RULE,
    truth: np.ndarray = TRUTH,
    fresh: np.ndarray | None = None,
    **circumstances: Any,
) -> Decision:
    return decide(Answers(truth, candidate, champion, fresh), CLASSES, rule, Circumstances(**circumstances))


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
    (reason,) = [reason for reason in judged.reasons if "too few" in reason]
    assert reason == "12 test photos are too few to judge on; 30 are needed"


def test_a_gain_that_may_well_be_chance_is_kept_out() -> None:
    champion = TRUTH.copy()
    champion[:6] = (TRUTH[:6] + 1) % 3
    candidate = TRUTH.copy()
    candidate[10:14] = (TRUTH[10:14] + 1) % 3
    judged = judge(candidate, champion, RULE.model_copy(update={"min_gain": 0.001, "min_confidence": 0.99}))
    assert judged.decision == KEEP
    assert judged.reasons[0].endswith("but with a confidence of 61%; 99% is needed")


def test_a_better_model_below_a_class_floor_is_kept_out() -> None:
    candidate = TRUTH.copy()
    candidate[TRUTH == 2] = np.where(np.arange(30) < 20, 1, 2)
    judged = judge(candidate, answers(0.3, seed=3))
    assert judged.decision == KEEP
    assert judged.reasons == ("recall of major is 0.33; 0.50 is needed",)


@pytest.mark.parametrize("champion", [None, answers(0.3, seed=3)])
def test_nothing_goes_live_while_a_class_is_away(champion: np.ndarray | None) -> None:
    """Neither a first version nor one that is far ahead on the other two classes."""
    here = TRUTH < 2
    judged = judge(TRUTH[here], None if champion is None else champion[here], truth=TRUTH[here])
    assert judged.decision == KEEP
    assert judged.reasons == ("test photos of major: 0; 5 are needed",)


def test_a_class_needs_its_number_of_test_photos_and_no_more() -> None:
    few = np.concatenate([np.flatnonzero(TRUTH < 2), np.flatnonzero(TRUTH == 2)[:4]])
    judged = judge(TRUTH[few], answers(0.3, seed=3)[few], truth=TRUTH[few])
    assert judged.reasons == ("test photos of major: 4; 5 are needed",)
    four = RULE.model_copy(update={"min_test_photos_per_class": 4})
    assert judge(TRUTH[few], answers(0.3, seed=3)[few], four, TRUTH[few]).decision == PROMOTE


def test_a_class_that_the_champion_knows_and_the_candidate_does_not_is_a_reason_of_its_own() -> None:
    judged = judge(answers(0.95), answers(0.6, seed=2), lost=("minor",))
    assert judged.decision == KEEP
    assert judged.reasons == ("the champion knows minor, and this version was trained on no photo of it",)


def test_an_answer_that_names_a_class_without_photos_is_one_mistake_and_no_more() -> None:
    """The champion says major to ten photos of two classes. Its macro-F1 is that of the two classes."""
    here = TRUTH < 2
    champion = TRUTH[here].copy()
    champion[:10] = 2
    rule = RULE.model_copy(update={"recall_floor": {}})
    shown = judge(TRUTH[here], champion, rule, TRUTH[here]).evidence.champion
    assert shown is not None
    assert shown.macro_f1 == pytest.approx(2 * 25 / (30 + 25))


@pytest.mark.parametrize("always", [0, 1, 2])
def test_a_first_model_that_always_says_the_same_is_not_promoted(always: int) -> None:
    judged = judge(np.full_like(TRUTH, always), None, RULE.model_copy(update={"recall_floor": {}}))
    assert judged.decision == KEEP
    assert judged.reasons[0].startswith("it is ahead of always saying minor with a confidence of ")


def test_a_first_model_that_guesses_is_not_promoted_although_its_macro_f1_is_above_that_of_a_constant() -> None:
    guesses = np.random.default_rng(2).permutation(TRUTH)
    judged = judge(guesses, None, RULE.model_copy(update={"recall_floor": {}}))
    assert judged.evidence.candidate.macro_f1 > 0.3 > 0.5 / 3
    assert judged.decision == KEEP


def test_a_first_model_needs_the_smallest_test_set_too() -> None:
    judged = judge(TRUTH[:27], None, truth=TRUTH[:27])
    assert judged.decision == KEEP
    assert judged.reasons == ("27 test photos are too few to judge on; 30 are needed",)


def test_a_setting_lets_a_first_model_go_live_that_has_learnt_nothing_but_a_later_one_must_be_ahead() -> None:
    rule = RULE.model_copy(update={"first_version": "any", "recall_floor": {}})
    always = np.zeros_like(TRUTH)
    assert judge(always, None, rule).decision == PROMOTE
    assert judge(always, always, rule).decision == KEEP


def test_no_test_photo_at_all_promotes_nobody() -> None:
    nothing = TRUTH[:0]
    assert judge(nothing, None, RULE.model_copy(update={"recall_floor": {}}), nothing).decision == KEEP
    assert judge(nothing, nothing, truth=nothing).decision == KEEP


def test_the_same_question_gets_the_same_answer() -> None:
    first, second = (judge(answers(0.8), answers(0.7, seed=2)) for _ in range(2))
    assert dataclasses.asdict(first) == dataclasses.asdict(second)


def test_the_confidence_is_paired_so_that_a_small_but_consistent_gain_counts() -> None:
    """The candidate corrects six of the champion's mistakes and adds none: about as rare by chance as six heads in a row."""
    champion = answers(0.7)
    candidate = champion.copy()
    mended = np.flatnonzero(champion != TRUTH)[:6]
    candidate[mended] = TRUTH[mended]
    judged = judge(candidate, champion)
    assert judged.evidence.comparison.confidence == pytest.approx(1 - 1 / 64, abs=0.01)
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


def test_a_later_look_asks_for_more_confidence_and_says_so() -> None:
    """Seven mended photos and one spoiled one: the champion's first challenger may go live with it, and the twentieth may not."""
    champion = TRUTH.copy()
    champion[:7] = (TRUTH[:7] + 1) % 3
    candidate = TRUTH.copy()
    candidate[10] = (TRUTH[10] + 1) % 3
    first, later = judge(candidate, champion), judge(candidate, champion, looks=20)
    assert (first.decision, later.decision) == (PROMOTE, KEEP)
    assert first.evidence.comparison == later.evidence.comparison
    assert later.reasons[0].endswith("; 99.50% is needed of candidate 20 since the champion was chosen")


def test_the_confidence_asked_rises_with_each_look_to_what_the_resamples_can_show() -> None:
    rule = Promotion(min_confidence=0.9, resamples=1_999)
    assert [confidence_asked(rule, looks) for looks in (1, 2, 10, 1_000, 10_000)] == pytest.approx([0.9, 0.95, 0.99, 0.999, 0.999])
    perfect, hopeless = TRUTH, (TRUTH + 1) % 3
    assert judge(perfect, hopeless, rule, looks=1_000_000).decision == PROMOTE


def lucky_champion(fresh: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, candidate, champion and fresh: the champion was chosen on 90 photos on which it is always right, and is often wrong since."""
    truth = np.arange(90 + fresh) % 3
    since = np.arange(len(truth)) >= 90
    candidate, champion = truth.copy(), truth.copy()
    candidate[:30] = (truth[:30] + 1) % 3
    champion[since] = np.where(np.arange(fresh) % 5 < 2, (truth[since] + 1) % 3, truth[since])
    return truth, candidate, champion, since


def test_a_champion_is_judged_on_fresh_photos_when_they_are_the_majority() -> None:
    truth, candidate, champion, fresh = lucky_champion(90)
    judged = judge(candidate, champion, truth=truth, fresh=fresh)
    assert (judged.evidence.test_photos, judged.evidence.fresh) == (90, 90)
    assert judged.decision == PROMOTE
    assert judged.evidence.champion is not None
    assert judged.evidence.champion.macro_f1 == pytest.approx(0.6)


def test_a_few_fresh_photos_count_with_all_others() -> None:
    truth, candidate, champion, fresh = lucky_champion(60)
    judged = judge(candidate, champion, truth=truth, fresh=fresh)
    assert (judged.evidence.test_photos, judged.evidence.fresh) == (150, 60)
    assert judged.decision == KEEP


def test_fresh_photos_without_a_class_count_with_all_others() -> None:
    truth, candidate, champion, fresh = lucky_champion(90)
    kept = ~fresh | (truth < 2)
    judged = judge(candidate[kept], champion[kept], RULE.model_copy(update={"min_test_photos": 10}), truth[kept], fresh[kept])
    assert judged.evidence.test_photos == 150
    fewer = np.flatnonzero(kept)[40:]  # now the fresh photos of two classes are the majority
    judged = judge(candidate[fewer], champion[fewer], RULE.model_copy(update={"min_test_photos": 10}), truth[fewer], fresh[fewer])
    assert judged.evidence.test_photos == 110


def test_the_evidence_has_the_circumstances_and_an_interval_around_each_score() -> None:
    evidence = judge(answers(0.9), answers(0.8, seed=2), looks=3, excluded=7).evidence
    assert (evidence.looks, evidence.excluded, evidence.fresh) == (3, 7, None)
    for score in (evidence.candidate, evidence.champion):
        assert score is not None
        assert score.interval is not None
        assert score.interval[0] < score.macro_f1 < score.interval[1]
        assert 0.1 < score.interval[1] - score.interval[0] < 0.25


@pytest.mark.parametrize(
    ("share", "shown"), [(0.8, "80%"), (0.98, "98%"), (0.9896, "98%"), (0.99, "99%"), (0.996, "99.60%"), (0.99992, "99.992%"), (0.5, "50%")]
)
def test_a_confidence_is_shown_with_the_digits_that_tell_it_from_certainty(share: float, shown: str) -> None:
    assert percent(share) == shown


def two_groups(truth: np.ndarray = TRUTH) -> tuple[Group, ...]:
    """The first two thirds of the photos, and the rest."""
    border = 2 * len(truth) // 3
    return (
        Group("size_thumbnail", "small ones", np.arange(border)),
        Group("source_dealer_a", "of one dealer", np.arange(border, len(truth))),
    )


def judge_groups(candidate: np.ndarray, champion: np.ndarray | None, floor: float, groups: tuple[Group, ...], **more: Any) -> Decision:
    rule = RULE.model_copy(update={"group_floor": floor})
    return decide(Answers(TRUTH, candidate, champion, groups=groups, **more), CLASSES, rule, Circumstances())


BAD_IN_ONE_GROUP = np.where(np.arange(90) >= 75, (TRUTH + 1) % 3, TRUTH)
"""Right on all photos but half of the second group's."""


@pytest.mark.parametrize("champion", [None, answers(0.3, seed=3)])
def test_a_model_that_is_bad_in_one_group_is_kept_out_if_a_floor_is_set_and_only_then(champion: np.ndarray | None) -> None:
    judged = judge_groups(BAD_IN_ONE_GROUP, champion, 0.6, two_groups())
    assert judged.decision == KEEP
    assert judged.reasons == ("macro-F1 of group source_dealer_a (30 test photos) is 0.500; 0.600 is needed",)
    assert judge_groups(BAD_IN_ONE_GROUP, champion, 0.5, two_groups()).decision == PROMOTE
    assert judge_groups(BAD_IN_ONE_GROUP, champion, 0.0, two_groups()).decision == PROMOTE


def test_both_models_scores_in_each_group_are_evidence_with_its_photos() -> None:
    evidence = judge_groups(BAD_IN_ONE_GROUP, TRUTH, 0.0, two_groups()).evidence
    assert evidence.groups == {"size_thumbnail": 60, "source_dealer_a": 30}
    assert evidence.candidate.groups == pytest.approx({"size_thumbnail": 1.0, "source_dealer_a": 0.5})
    assert evidence.champion is not None
    assert evidence.champion.groups == {"size_thumbnail": 1.0, "source_dealer_a": 1.0}
    assert evidence.worst_group == "source_dealer_a"


def test_a_floor_that_no_group_is_large_enough_for_keeps_a_version_out() -> None:
    small = tuple(group.only(np.arange(90) % 3 > 0) for group in (Group("size_medium", "", np.arange(40)),))
    assert len(small[0]) < MIN_PHOTOS
    for groups in ((), small):
        judged = judge_groups(TRUTH, None, 0.5, groups)
        assert judged.decision == KEEP
        assert judged.reasons == ("no group of test photos has 30, so no macro-F1 can be held against promotion.group_floor = 0.5",)


def test_a_group_of_fewer_photos_than_say_something_stops_nobody() -> None:
    all_but_20 = Group("size_thumbnail", "", np.arange(70)), Group("source_b", "", np.arange(70, 90))
    judged = judge_groups(np.where(np.arange(90) >= 75, (TRUTH + 1) % 3, TRUTH), None, 0.8, all_but_20)
    assert judged.decision == PROMOTE
    assert judged.evidence.groups == {"size_thumbnail": 70}


def test_groups_are_held_against_the_floor_on_the_photos_that_the_decision_is_made_on() -> None:
    """Once fresh photos decide alone, the group's mistakes on the others do not count."""
    fresh = np.arange(90) < 75
    group = (Group("size_thumbnail", "", np.arange(40, 90)),)
    judged = judge_groups(BAD_IN_ONE_GROUP, answers(0.3, seed=3), 0.9, group, fresh=fresh)
    assert judged.decision == PROMOTE
    assert judged.evidence.groups == {"size_thumbnail": 35}
    assert judged.evidence.candidate.groups == {"size_thumbnail": 1.0}
