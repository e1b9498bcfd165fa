"""How a photo gets its class."""

from unicodedata import normalize

import pytest

from car_damage.data.photos.labels import Labeller, LabelResult, parse_table
from car_damage.errors import SettingsError
from car_damage.settings import Labels

LANDING = "/Volumes/c/s/v/imgs/"


def labeller(source: str = "folder", table: dict[str, str] | None = None) -> Labeller:
    return Labeller(Labels(source=source, table="labels.csv" if source == "table" else None), LANDING, table)


@pytest.mark.parametrize(
    ("path", "label", "reason"),
    [
        ("major/a.jpg", "major", None),
        ("MAJOR/a.jpg", "major", None),
        ("Severe/a.jpg", "major", None),
        ("major/2024/minor/a.jpg", "minor", None),
        ("minor/claim_1/a.jpg", "minor", None),
        ("minor/2024/claim_1/a.jpg", "minor", None),
        ("other/2024/a.jpg", None, "unknown label"),
        ("a.jpg", None, "no label"),
        ("other/a.jpg", None, "unknown label"),
        ("major.jpg", None, "no label"),
    ],
)
def test_the_nearest_folder_names_the_class(path: str, label: str | None, reason: str | None) -> None:
    assert labeller().label(LANDING + path) == LabelResult(label, reason)


@pytest.mark.parametrize("source", ["folder", "file_name", "table"])
@pytest.mark.parametrize(("in_settings", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_is_the_same_letter_however_the_file_system_writes_it(source: str, in_settings: str, on_disk: str) -> None:
    word, folder = normalize(in_settings, "modéré"), normalize(on_disk, "modéré")
    settings = Labels(source=source, table="labels.csv" if source == "table" else None, classes=("minor", word), aliases={})  # type: ignore[arg-type]
    table = parse_table(f"path,label\n{normalize(in_settings, 'é')}/1.jpg,{word}\n".encode()) if source == "table" else None
    path = {"folder": f"{folder}/1.jpg", "file_name": f"x/{folder}_1.jpg", "table": f"{normalize(on_disk, 'é')}/1.jpg"}[source]
    assert Labeller(settings, LANDING, table).label(LANDING + path) == LabelResult(word, None)


def test_a_path_that_is_listed_in_both_ways_with_two_labels_is_refused() -> None:
    table = {f"{normalize('NFC', 'é')}.jpg": "minor", f"{normalize('NFD', 'é')}.jpg": "major"}
    with pytest.raises(SettingsError, match="twice, written with other accents, and with two labels"):
        labeller("table", table)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le with mark"])
def test_a_table_from_a_spreadsheet_on_windows_is_read(encoding: str, separator: str) -> None:
    text = "path,label\r\nclaim 1\\é.jpg,Minor \r\n".replace(",", separator)
    data = b"\xff\xfe" + text.encode("utf-16-le") if "mark" in encoding else text.encode(encoding)
    assert labeller("table", parse_table(data)).label(f"{LANDING}claim 1/é.jpg") == LabelResult("minor", None)


def test_a_landing_folder_that_is_itself_called_like_a_class_labels_nothing() -> None:
    assert Labeller(Labels(), "/photos/major").label("/photos/major/a.jpg") == LabelResult(None, "no label")


@pytest.mark.parametrize(
    ("name", "label", "reason"),
    [
        ("minor_001.jpg", "minor", None),
        ("IMG-severe2.jpg", "major", None),
        ("car_moderate_minor.jpg", "moderate", None),
        ("minority.jpg", None, "unknown label"),
        ("0001.jpg", None, "no label"),
        ("0001.minor", None, "no label"),
    ],
)
def test_the_first_word_of_a_file_name_that_is_a_class_names_it(name: str, label: str | None, reason: str | None) -> None:
    assert labeller("file_name").label(f"{LANDING}major/{name}") == LabelResult(label, reason)


def test_a_table_names_the_class_by_the_path_below_the_landing_folder() -> None:
    by_table = labeller("table", parse_table(b"\xef\xbb\xbfid,path,label\r\n1,x/a.jpg, Low \r\n2,b.jpg,major\r\n3,c.jpg,\r\n"))
    paths = [LANDING + path for path in ("x/a.jpg", "b.jpg", "c.jpg", "a.jpg")]
    assert [found.label for found in by_table.labels(paths)] == ["minor", "major", None, None]
    assert [found.reason for found in by_table.labels(paths)] == [None, None, "no label", "no label"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "no column path and no column label"),
        (b"path,severity\na.jpg,minor\n", r"no column label \(found: path, severity\)"),
        (b"path,label\na.jpg,minor\na.jpg,major\n", "lists a.jpg as minor and, in line 3, as major"),
        (b"path,label\na.jpg\n", "line 2 .* incomplete"),
        (b"path,label\n\xff.jpg,minor\n", "not UTF-8"),
        (b'path,label\n"a.jpg,minor\n', "not CSV"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_what_is_wrong(table: bytes, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_table(table)


def test_a_table_is_needed_where_the_settings_name_one() -> None:
    with pytest.raises(SettingsError, match="table"):
        labeller("table")


def test_many_labels_are_in_the_order_of_their_paths() -> None:
    paths = [f"{LANDING}{folder}/{number}.jpg" for number in range(50) for folder in ("minor", "major", "other")]
    many = labeller().labels(paths)
    assert many == [labeller().label(path) for path in paths]
    assert {found.label for found in many} == {"minor", "major", None}
