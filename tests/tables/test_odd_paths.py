"""A landing folder may have any name: marks that are special to a shell, to a URL, to Rich or to a pattern."""

import pytest

from car_damage.adapters.folder import Folder
from car_damage.data.photos import ledger


@pytest.mark.parametrize("name", ["a%20b % #? 'c' \"d\" `e` ü", "[bold]f g^h|i :car: $HOME {} ~ & ; * \\n"])
@pytest.mark.parametrize("source", ["folder", "table"])
def test_photos_of_a_landing_folder_of_any_name_are_found_labelled_and_announced(workshop, photo, name, source):
    workshop.landing = landing = workshop.root / name
    landing.mkdir()
    workshop.configure(labels={"source": source} | ({"table": f"{landing}/_labels.csv"} if source == "table" else {}))
    words = name.replace("\\", "")  # which a table of labels takes for /
    files = {f"{label}/{words} {label}.jpg": label for label in ("minor", "moderate", "major")}
    for seed, file in enumerate(files):
        workshop.put(file, photo(seed))
    lines = "".join(f'"{file.replace(chr(34), chr(34) * 2)}",{label}\n' for file, label in files.items())
    (landing / "_labels.csv").write_text(f"path,label\n{lines}")
    validated, _ = workshop.run()
    assert (validated.accepted, validated.rejected, validated.unreadable) == (3, {}, ())
    assert {file: row["label"] for file, row in workshop.silver_rows().items()} == files
    assert ledger.landing_fingerprint(str(landing), ledger.listing_of(Folder().list(str(landing)))) == validated.landing_fingerprint
    assert workshop.validate().accepted == 0
