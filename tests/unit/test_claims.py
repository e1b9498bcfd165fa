"""What the photos of a claim say together."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_damage.data.answers.claims import Claim, Photo, by_column, by_folder, changed, claim_of, claims, possible

CLASSES = ("minor", "moderate", "major")
MINOR, MODERATE, MAJOR = (Photo(name, (name,)) for name in CLASSES)
MILD = Photo("minor or moderate", ("minor", "moderate"))
SEVERE = Photo("moderate or major", ("moderate", "major"))
ANY = Photo("anything", ())


@pytest.mark.parametrize(
    ("photos", "label", "undecided"),
    [
        ([MINOR], "minor", []),
        ([MINOR, MAJOR, MODERATE], "major", []),
        ([MINOR, MILD], "minor", [MILD]),
        ([MODERATE, MILD], "moderate", []),
        ([MODERATE, SEVERE, MILD], "moderate", [SEVERE]),
        ([MAJOR, SEVERE, ANY], "major", []),
        ([MODERATE, ANY], "moderate", [ANY]),
        ([MILD], None, [MILD]),
        ([ANY, SEVERE], None, [ANY, SEVERE]),
        ([Photo("of an older model", ("dented",)), MODERATE], "moderate", [Photo("of an older model", ())]),
    ],
)
def test_a_claim_is_as_bad_as_its_worst_decided_photo_and_needs_a_person_where_an_undecided_one_could_be_worse(
    photos: list[Photo], label: str | None, undecided: list[Photo]
) -> None:
    claim = claim_of(photos, CLASSES)
    assert (claim.label, claim.undecided) == (label, tuple(photo.path for photo in undecided))
    assert claim.review == bool(undecided)
    assert claim.shown_by == tuple(photo.path for photo in photos if photo.possible == (label,))


POSSIBLE = st.lists(st.sampled_from(CLASSES), unique=True, max_size=3).map(tuple)


@given(st.lists(POSSIBLE, min_size=1, max_size=5))
def test_whatever_an_undecided_photo_shows_a_claim_without_review_keeps_its_label(sets: list[tuple[str, ...]]) -> None:
    claim = claim_of([Photo(str(number), possible) for number, possible in enumerate(sets)], CLASSES)
    worst = max(max(CLASSES.index(name) for name in possible or CLASSES) for possible in sets)
    could_be = claim.label is not None and CLASSES.index(claim.label) >= worst
    assert claim.review != could_be


@pytest.mark.parametrize(
    ("label", "classes", "review", "expected"),
    [
        ("minor", ("minor",), False, ("minor",)),
        ("minor", (), None, ("minor",)),
        ("minor", ("minor", "major"), True, ("minor", "major")),
        ("minor", ("major",), True, ("minor", "major")),
        ("minor", (), True, ()),
        (None, (), None, ()),
    ],
)
def test_a_photo_may_be_of_the_classes_that_cannot_be_excluded(
    label: str | None, classes: tuple[str, ...], review: bool | None, expected: tuple[str, ...]
) -> None:
    assert possible(label, classes, review) == expected


def test_a_photo_without_an_answer_could_show_anything_and_one_without_a_claim_belongs_to_none() -> None:
    of = by_column(pa.table({"path": ["a", "b", "c", "d", None], "claim": [1, 1, 2, None, 3]}))
    answers = pa.table({"path": ["a", "c", "d"], "possible": [["minor"], ["major"], ["major"]]})
    assert claims(of, answers, CLASSES).to_pylist() == [
        {"claim": "1", "label": "minor", "review": True, "photos": 2, "shown_by": ["a"], "undecided": ["b"]},
        {"claim": "2", "label": "major", "review": False, "photos": 1, "shown_by": ["c"], "undecided": []},
    ]


def test_only_new_and_changed_claims_are_written() -> None:
    of = pa.table({"path": ["a", "b"], "claim": ["1", "2"]})
    before = claims(of, pa.table({"path": ["a", "b"], "possible": [["minor"], ["minor"]]}), CLASSES)
    now = claims(of, pa.table({"path": ["a", "b"], "possible": [["minor"], ["major"]]}), CLASSES)
    assert changed(now, before)["claim"].to_pylist() == ["2"]
    assert changed(now, before.slice(0, 0)) == now
    assert not changed(now, now).num_rows


def test_a_folders_claim_is_the_first_folder_below_the_source() -> None:
    paths = ["/claims/17/a.jpg", "/claims/17/rear/b.jpg", "/claims/c.jpg", "/elsewhere/18/d.jpg"]
    assert by_folder(paths, "/claims/").to_pylist() == [{"path": path, "claim": "17"} for path in paths[:2]]
    assert claim_of([], CLASSES) == Claim(None, (), ())
