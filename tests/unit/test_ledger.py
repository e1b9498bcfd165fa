import hashlib
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from car_damage.data import ledger
from car_damage.errors import LandingLost

LANDING = "/photos"


def listing(*files):
    return ledger.listing((f"{LANDING}/{name}", size, modified) for name, size, modified in files)


def compare(listed, present, landing=LANDING):
    return ledger.compare(landing, listed, present, 3)


def names(table):
    return [path.removeprefix(f"{LANDING}/") for path in table["path"].to_pylist()]


def test_a_file_that_bronze_knows_just_so_is_neither_new_nor_gone():
    known = listing(("a.jpg", 1, 1000), ("b.jpg", 2, 2000))
    landed = compare(known, known)
    assert (landed.new.num_rows, landed.gone.num_rows, landed.listed, landed.known, landed.bronze_version) == (0, 0, 2, 2, 3)


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
    assert (landed.gone.num_rows, landed.known) == (0, 0)


def test_two_files_of_one_spelling_count_once():
    landed = compare(listing(("a.jpg", 9, 5000), ("a.jpg", 1, 7000), ("b.jpg", 1, 1)), listing())
    assert sorted(names(landed.new)) == ["a.jpg", "b.jpg"]


def guard(known, vanished, share, allow_removals=False):
    files = [(f"{number}.jpg", 1, 1000) for number in range(known)]
    ledger.guard(compare(listing(*files[vanished:]), listing(*files)), share, allow_removals=allow_removals)


def test_a_vanished_share_up_to_the_bound_is_believed():
    guard(known=10, vanished=5, share=0.5)


def test_above_the_bound_the_message_names_the_numbers_and_the_parameter():
    with pytest.raises(LandingLost, match=r"6 of the 10 .* lists 4; .*50%.*allow_removals"):
        guard(known=10, vanished=6, share=0.5)


def test_an_empty_folder_is_believed_only_when_asked_to():
    with pytest.raises(LandingLost):
        guard(known=1, vanished=1, share=0.5)
    guard(known=1, vanished=1, share=0.5, allow_removals=True)
    guard(known=0, vanished=0, share=0.0)


def test_replaced_files_do_not_count_as_vanished():
    old = [(f"{number}.jpg", 1, 1000) for number in range(10)]
    new = [(f"{number}.jpg", 1, 2000) for number in range(10)]
    ledger.guard(compare(listing(*new), listing(*old)), 0.0, allow_removals=False)


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
