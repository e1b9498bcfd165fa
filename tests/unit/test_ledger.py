import hashlib
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from car_damage.data.photos import guard as guards
from car_damage.data.photos import ledger
from car_damage.errors import LandingLost
from car_damage.ports import Loss

LANDING = "/photos"


def listing(*files):
    return ledger.listing((f"{LANDING}/{name}", size, modified) for name, size, modified in files)


def rows(listed, label="minor", judged_under="these limits"):
    """Present rows of bronze for listed files."""
    columns = (pa.repeat(pa.scalar(value, pa.string()), listed.num_rows) for value in (label, judged_under))
    return pa.table([*listed.columns, *columns], ledger.COMPARED)


def compare(listed, present, landing=LANDING, **more):
    present = present if "label" in present.column_names else rows(present)
    return ledger.compare(landing, listed, present, 3, "these limits", **more)


def names(table):
    return [path.removeprefix(f"{LANDING}/") for path in table["path"].to_pylist()]


def test_a_file_that_bronze_knows_just_so_is_neither_new_nor_gone():
    known = listing(("a.jpg", 1, 1000), ("b.jpg", 2, 2000))
    landed = compare(known, known)
    assert (landed.new.num_rows, landed.gone.num_rows, landed.listed, landed.losses[0].known, landed.bronze_version) == (0, 0, 2, 2, 3)


@pytest.mark.parametrize("changed", [("a.jpg", 2, 1000), ("a.jpg", 1, 1001)])
def test_another_size_or_time_is_a_new_version_and_the_old_one_is_replaced(changed):
    landed = compare(listing(changed), listing(("a.jpg", 1, 1000)))
    assert names(landed.new) == ["a.jpg"]
    assert landed.gone["status"].to_pylist() == ["replaced"]


def test_a_file_that_is_not_listed_any_more_has_vanished():
    landed = compare(listing(("b.jpg", 1, 1000)), listing(("a.jpg", 1, 1000), ("b.jpg", 1, 1000)))
    assert (names(landed.gone), landed.gone["status"].to_pylist()) == (["a.jpg"], ["vanished"])


@pytest.mark.parametrize("elsewhere", ["/other/a.jpg", "/photos2/a.jpg", "/photos.jpg"])
def test_rows_of_another_landing_folder_are_not_known_here_and_never_gone(elsewhere):
    landed = compare(listing(("b.jpg", 1, 1000)), ledger.listing([(elsewhere, 1, 1000)]))
    assert (landed.gone.num_rows, landed.losses[0].known, landed.elsewhere) == (0, 0, 1)


def test_rows_of_another_landing_folder_that_are_retired_have_vanished_without_being_a_loss():
    landed = compare(listing(("b.jpg", 1, 1000)), ledger.listing([("/other/a.jpg", 1, 1000)]), retire_others=True)
    assert landed.gone.to_pylist() == [
        {"path": "/other/a.jpg", "size": 1, "modified": datetime.fromtimestamp(1, UTC), "status": "vanished"}
    ]
    assert (landed.losses[0].gone, landed.elsewhere) == (0, 0)


@pytest.mark.parametrize("under", ["other limits", None])
def test_a_file_whose_verdict_was_given_under_other_limits_needs_a_verdict_and_stays_known(under):
    listed = listing(("a.jpg", 1, 1000), ("b.jpg", 1, 1000))
    present = pa.concat_tables([rows(listed.slice(0, 1), judged_under=under), rows(listed.slice(1))])
    landed = compare(listed, present)
    assert (names(landed.new), landed.new["known"].to_pylist(), landed.gone.num_rows) == (["a.jpg"], [True], 0)


def test_another_version_of_a_file_is_not_known():
    landed = compare(listing(("a.jpg", 2, 1000)), rows(listing(("a.jpg", 1, 1000)), judged_under="other limits"))
    assert landed.new["known"].to_pylist() == [False]


def test_two_files_of_one_spelling_count_once():
    landed = compare(listing(("a.jpg", 9, 5000), ("a.jpg", 1, 7000), ("b.jpg", 1, 1)), listing())
    assert sorted(names(landed.new)) == ["a.jpg", "b.jpg"]


def guard(known, vanished, share):
    files = [(f"{number}.jpg", 1, 1000) for number in range(known)]
    lost = compare(listing(*files[vanished:]), rows(listing(*files), label=None)).losses
    guards.check(lost, share, f"from a folder that lists {known - vanished}", "Say allow_removals")


def test_a_vanished_share_up_to_the_bound_is_believed():
    guard(known=10, vanished=5, share=0.5)


def test_above_the_bound_the_message_names_the_numbers_and_the_advice():
    with pytest.raises(LandingLost, match=r"lists 4: 6 of all 10; .*50%.*allow_removals"):
        guard(known=10, vanished=6, share=0.5)


def test_an_empty_folder_is_believed_only_where_nothing_was_known():
    with pytest.raises(LandingLost):
        guard(known=1, vanished=1, share=0.5)
    guard(known=0, vanished=0, share=0.0)


def test_a_class_that_is_away_is_not_believed_although_most_photos_are_there():
    minor, major = (listing(*((f"{label}/{number}.jpg", 1, 1000) for number in range(10))) for label in ("minor", "major"))
    landed = compare(major, pa.concat_tables([rows(minor, "minor"), rows(major, "major")]))
    with pytest.raises(
        LandingLost,
        match=r"^too many known photos have vanished from the folder: 10 of the 10 that are labelled minor; .* of each class",
    ):
        guards.check(landed.losses, 0.5, "from the folder", "")


def test_replaced_files_do_not_count_as_vanished():
    old = [(f"{number}.jpg", 1, 1000) for number in range(10)]
    new = [(f"{number}.jpg", 1, 2000) for number in range(10)]
    guards.check(compare(listing(*new), listing(*old)).losses, 0.0, "", "")


def test_the_landing_fingerprint_is_of_relative_path_size_and_whole_seconds():
    expected = hashlib.sha256(b"a b.jpg\x0010\x00-2\nz/\xc3\xa9.jpg\x0020\x001700000000\n").hexdigest()
    listed = listing(("z/é.jpg", 20, 1_700_000_000_999), ("a b.jpg", 10, -1001))
    assert ledger.landing_fingerprint(LANDING, listed) == expected
    assert ledger.landing_fingerprint(f"{LANDING}/", listed.take([1, 0])) == expected


def test_the_landing_fingerprint_is_the_same_wherever_the_folder_is_mounted():
    elsewhere = ledger.listing([("/Volumes/x/a.jpg", 1, 1000)])
    assert ledger.landing_fingerprint("/Volumes/x", elsewhere) == ledger.landing_fingerprint(LANDING, listing(("a.jpg", 1, 1000)))


@pytest.mark.parametrize("changed", [("b.jpg", 1, 1000), ("a.jpg", 2, 1000), ("a.jpg", 1, 2000)])
def test_the_landing_fingerprint_follows_name_size_and_time(changed):
    assert ledger.landing_fingerprint(LANDING, listing(changed)) != ledger.landing_fingerprint(LANDING, listing(("a.jpg", 1, 1000)))


def test_an_empty_folder_has_a_fingerprint():
    assert ledger.landing_fingerprint(LANDING, listing()) == hashlib.sha256(b"").hexdigest()


def test_a_listing_keeps_its_types_when_it_is_empty():
    assert listing().schema == listing(("a.jpg", 1, 1)).schema
    assert listing(("a.jpg", 1, 1500))["modified"].to_pylist() == [datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)]


def test_a_table_that_is_not_there_yet_conforms_to_the_schema():
    nothing = pa.table({"path": pa.nulls(0), "size": pa.nulls(0)})
    assert ledger.conform(nothing, ledger.BRONZE, ["path", "size"]).schema.types == [pa.string(), pa.int64()]


def test_photos_that_others_replace_are_no_loss_and_a_class_that_shrinks_is_one():
    before, after = pa.chunked_array([["minor"] * 4 + ["major"] * 4]), pa.chunked_array([["minor"] * 5 + ["major"]])
    assert guards.shrinkage(before, after) == (Loss(None, 8, 2), Loss("major", 4, 3), Loss("minor", 4, 0))


def test_photos_of_the_corrections_folder_are_known_and_no_loss_also_where_that_is_hidden_in_the_landing_folder():
    ours = f"{LANDING}/.home/corrections"
    photo, other = (f"{ours}/photos/{name}.jpg" for name in "ab")
    listed, known = (
        ledger.listing([(photo, 1, 1000), (f"{ours}/words/w.json", 1, 1000)]),
        ledger.listing([(photo, 1, 1000), (other, 1, 1000)]),
    )
    present = pa.concat_tables([rows(listing(("c.jpg", 1, 1000))), rows(known, None)])
    landed = compare(listing(("c.jpg", 1, 1000)), present, corrections=ledger.Listing(ours, listed), retire_others=True)
    assert (landed.new.num_rows, landed.gone["path"].to_pylist(), landed.listed, landed.elsewhere) == (0, [other], 1, 0)
    assert landed.losses[0] == Loss(None, 1, 0)
    assert (landed.words, landed.corrections_away) == ((f"{ours}/words/w.json",), 0)
    away = compare(listing(("c.jpg", 1, 1000)), present, corrections=ledger.Listing(ours, ledger.listing([])))
    assert away.corrections_away == 2
