"""Which photos a run may leave out, and what it says when these are too many."""

import pytest

from car_damage.errors import CarDamageError, PhotoChanged, Unavailable
from car_damage.settings import Landing
from car_damage.stages.photos.verdicts import refuse_too_many

LANDING = Landing(folder="/landing")


def left_out(*paths: str, error: type[CarDamageError] = PhotoChanged) -> dict[str, CarDamageError]:
    return {path: error(f"{path} is not what it was") for path in paths}


def test_as_many_photos_as_may_vanish_may_be_left_out() -> None:
    refuse_too_many(left_out("/landing/1.jpg", "/landing/2.jpg"), 4, LANDING)


def test_more_are_an_error_that_names_one_of_them() -> None:
    with pytest.raises(PhotoChanged, match=r"^3 of the 4 photos cannot be used, .* allows 50%; one of them: /landing/1\.jpg"):
        refuse_too_many(left_out("/landing/1.jpg", "/landing/2.jpg", "/landing/3.jpg"), 4, LANDING)


def test_where_one_of_them_cannot_be_read_the_error_may_pass() -> None:
    with pytest.raises(Unavailable, match=r"one of them: /landing/2\.jpg"):
        refuse_too_many(left_out("/landing/1.jpg") | left_out("/landing/2.jpg", error=Unavailable), 2, LANDING)


def test_photos_of_another_landing_folder_are_told_with_what_to_do() -> None:
    with pytest.raises(PhotoChanged, match=r"2 of them are in other folders than /landing/?: .*run again with retire_other_folders"):
        refuse_too_many(left_out("/before/1.jpg", "/before/2.jpg"), 2, LANDING)
