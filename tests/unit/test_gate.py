"""The rule night after night, on models whose true quality is known. `python -m benchmarks gate` simulates many more nights."""

from benchmarks.gate_nights import BETTER, RULE, Place, Series

USUAL = 0.9
"""Likeness of a model and the same one trained again."""


def promoted(place: Place, better: float) -> int:
    """Series of 50 nights, of twelve, in which a candidate goes live."""
    found = [Series(place, RULE, seed=run) for run in range(12)]
    return sum(any(one.night(better) for _ in range(50)) for one in found)


def test_in_six_hundred_nights_of_equally_good_candidates_hardly_one_goes_live() -> None:
    """About 1 % of the series have a promotion. With 80 % confidence every night ten of the twelve have one."""
    assert promoted(Place(60, 0, USUAL), 0.0) <= 1


def test_in_six_hundred_nights_of_candidates_that_are_five_points_worse_hardly_one_goes_live() -> None:
    """With 80 % confidence every night seven of the twelve series have a promotion."""
    assert promoted(Place(60, 0, 0.0), -BETTER) <= 1


def test_a_better_candidate_goes_live_after_many_nights_of_others() -> None:
    """The looks ask for more, and the photos that arrived meanwhile show more."""
    found = [Series(Place(600, 5, USUAL), RULE, seed=run) for run in range(8)]
    for one in found:
        one.looks = 100
    assert sum(one.night(better=0.08) for one in found) >= 6


def test_a_champion_that_luck_has_chosen_shows_its_true_score_when_fresh_photos_have_arrived() -> None:
    """It was right on all 60 photos that it was chosen on, and is right on three in four."""
    here = Series(Place(60, 0, USUAL), RULE, seed=1)
    here.champion.answers = here.here.truth.copy()
    assert here.shown() == 1.0
    here.here.arrive(240)
    assert abs(here.shown() - here.champion.good) < 0.06


def test_the_setting_is_the_confidence_of_the_first_look() -> None:
    """Of 100 equally good candidates one goes live at 99 %, and twenty at 80 %."""
    lax = RULE.model_copy(update={"min_confidence": 0.8})
    strict_live, lax_live = (sum(Series(Place(60, 0, USUAL), rule, seed=run).night() for run in range(100)) for rule in (RULE, lax))
    assert strict_live <= 5
    assert lax_live >= 10
