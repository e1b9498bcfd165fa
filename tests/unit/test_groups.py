"""Groups of photos: size classes and sources, with names that MLflow takes."""

import re

import numpy as np
import pyarrow as pa
import pytest
from mlflow.utils.validation import _validate_metric_name

from car_damage.data.photos.groups import Group, groups_of
from car_damage.settings import Labels

LANDING, BY_FOLDER = "/photos/", Labels()


def groups(*photos: tuple[str, int, int], labels: Labels = BY_FOLDER) -> dict[str, list[int]]:
    columns = dict(zip(("path", "width", "height"), map(list, zip(*photos, strict=True)), strict=True))
    return {group.name: group.rows.tolist() for group in groups_of(pa.table(columns), labels, LANDING)}


def sources(*paths: str, labels: Labels = BY_FOLDER) -> dict[str, list[int]]:
    found = groups(*((path, 300, 200) for path in paths), labels=labels)
    return {name: rows for name, rows in found.items() if name.startswith("source_")}


@pytest.mark.parametrize(
    ("width", "height", "name"),
    [
        (48, 48, "thumbnail"),
        (259, 194, "thumbnail"),
        (224, 447, "thumbnail"),
        (224, 448, "medium"),
        (640, 480, "medium"),
        (448, 895, "medium"),
        (448, 896, "large"),
        (1000, 667, "large"),
        (4000, 3000, "large"),
        (100_000, 100_000, "large"),
    ],
)
def test_a_photo_is_in_the_size_class_of_its_area(width: int, height: int, name: str) -> None:
    assert groups((f"{LANDING}minor/a.jpg", width, height)) == {f"size_{name}": [0]}
    assert groups((f"{LANDING}minor/a.jpg", height, width)) == {f"size_{name}": [0]}


def test_a_source_is_the_first_folder_below_that_of_the_class_in_any_spelling() -> None:
    paths = ("minor/dealer_a/1.jpg", "major/Dealer_A/2026/2.jpg", "Severe/dealer_b/3.jpg", "minor/4.jpg", "x/minor/dealer_a/5.jpg")
    assert sources(*(LANDING + path for path in paths)) == {"source_dealer_a": [0, 1, 4], "source_dealer_b": [2]}


def test_the_nearest_folder_of_a_class_counts_and_photos_of_an_earlier_landing_folder_have_sources_too() -> None:
    assert sources("/photos/minor/dealer_a/major/dealer_b/1.jpg", "/elsewhere/major/dealer_b/2.jpg") == {"source_dealer_b": [0, 1]}


def test_where_labels_are_not_those_of_folders_there_are_no_sources() -> None:
    labels = Labels(source="table", table="labels.csv")
    assert sources("/photos/minor/dealer_a/1.jpg", labels=labels) == {}
    assert sources("/photos/minor/dealer_a/1.jpg", labels=Labels(source="file_name")) == {}


def test_an_accent_is_the_same_letter_however_the_file_system_writes_it() -> None:
    [name] = sources("/photos/minor/H\u00e4ndler/1.jpg", "/photos/minor/Ha\u0308ndler/2.jpg")
    assert name.startswith("source_handler_")


def test_names_are_legal_metrics_and_no_two_folders_become_one() -> None:
    folders = [
        "dealer a",
        "dealer_a",
        "dealer/a".replace("/", ":"),
        "事故",
        "写真",
        "x" * 300,
        "x" * 301,
        "a\nb",
        "<b>",
        "..",
        "%",
        "DEALER-C",
    ]
    found = sources(*(f"/photos/minor/{folder}/1.jpg" for folder in folders))
    assert len(found) == len(folders)
    for name in found:
        assert re.fullmatch(r"[a-z0-9_-]{1,60}", name)
        _validate_metric_name(f"test_macro_f1_group_{name}")
    assert {"source_dealer_a", "source_dealer-c"} <= set(found)


def test_a_group_among_some_of_the_photos_has_their_numbers() -> None:
    group = Group("size_large", "", np.array([0, 2, 3, 5]))
    assert group.only(np.array([True, True, False, True, False, True])).rows.tolist() == [0, 2, 3]
    assert group.only(np.zeros(6, bool)).rows.tolist() == []
