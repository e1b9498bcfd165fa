import io

import numpy as np
import pytest
from PIL import Image

from car_damage.model.pixels.photos import Photos
from car_damage.model.quality import plots
from car_damage.model.quality.evaluation import evaluate

CLASSES = ("minor", "moderate", "major")


def photos(n: int, name: str = "photo") -> Photos:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)
    return Photos(pixels, np.zeros(n, np.int64), tuple(map(str, range(n))), tuple(f"/photos/{name}{i}.jpg" for i in range(n)))


def picture(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def test_the_confusion_matrix_shows_a_full_cell_darker_than_an_empty_one() -> None:
    right = picture(plots.confusion_matrix(evaluate(np.array([0, 1, 2]), np.eye(3), CLASSES), "Test"))
    wrong = picture(plots.confusion_matrix(evaluate(np.array([0, 1, 2]), np.eye(3)[[1, 2, 0]], CLASSES), "Test"))
    top_left = (slice(right.shape[0] // 5, right.shape[0] // 3), slice(right.shape[1] // 4, right.shape[1] // 3))
    assert right[top_left].mean() + 50 < wrong[top_left].mean()


def test_the_class_balance_has_a_row_of_bars_for_each_class_in_the_colours_of_its_splits() -> None:
    splits = {"train": 30, "validation": 10, "test": 10}
    drawn = picture(plots.class_balance({"minor": splits, "moderate": splits, "major": dict.fromkeys(splits, 0)}))
    colours = [tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5)) for colour in (plots.BLUE, plots.LIGHT, plots.ORANGE)]
    areas = [int((drawn == colour).all(axis=2).sum()) for colour in colours]
    assert areas[0] > 2 * areas[1] > areas[2] > 0


def test_the_training_curve_can_be_drawn_of_a_single_epoch() -> None:
    history = {"loss": [1.0], "accuracy": [0.3], "val_loss": [1.1], "val_accuracy": [0.2]}
    assert picture(plots.training_curve(history, 1)).std() > 0


def test_the_contact_sheet_grows_with_the_mistakes_up_to_twelve() -> None:
    wrong = np.tile([0.1, 0.9, 0.0], (30, 1))
    heights = [picture(plots.worst_mistakes(photos(n), wrong[:n], CLASSES)).shape[0] for n in (1, 5, 12, 30)]
    assert heights[0] < heights[1] < heights[2] == heights[3]


def test_the_contact_sheet_has_the_most_certain_mistake_first() -> None:
    shades = Photos(
        np.stack([np.full((224, 224, 3), shade, np.uint8) for shade in (40, 90)]), np.zeros(2, np.int64), ("a", "b"), ("/a.jpg", "/b.jpg")
    )
    sheet = picture(plots.worst_mistakes(shades, np.array([[0.4, 0.6, 0.0], [0.1, 0.9, 0.0]]), CLASSES))
    middle = sheet.shape[0] // 2
    assert (sheet[middle, sheet.shape[1] // 6, 0], sheet[middle, sheet.shape[1] // 2, 0]) == (90, 40)


def test_without_mistakes_the_contact_sheet_says_so_in_a_small_picture() -> None:
    right = np.tile([1.0, 0.0, 0.0], (3, 1))
    assert picture(plots.worst_mistakes(photos(3), right, CLASSES)).shape[0] < 300


def test_names_with_dollar_signs_and_foreign_letters_are_drawn_as_they_are() -> None:
    wrong = np.tile([0.1, 0.9, 0.0], (1, 1))
    assert picture(plots.worst_mistakes(photos(1, "$broken_{math é 漢 "), wrong, CLASSES)).size


def test_two_models_on_the_same_photos_are_drawn_side_by_side_and_one_alone() -> None:
    right, wrong = [[3, 0, 0], [0, 3, 0], [0, 0, 3]], [[0, 3, 0], [0, 0, 3], [3, 0, 0]]
    alone = picture(plots.confusion_matrices({"version 2": right}, CLASSES))
    both = picture(plots.confusion_matrices({"version 2": right, "champion 1": wrong}, CLASSES))
    assert both.shape[1] == pytest.approx(2 * alone.shape[1], abs=2)
    left, other = both[:, : both.shape[1] // 2], both[:, both.shape[1] // 2 :]
    top_left = (slice(left.shape[0] // 5, left.shape[0] // 3), slice(left.shape[1] // 3, left.shape[1] // 2))
    assert left[top_left].mean() + 50 < other[top_left].mean()
