"""Where in a photo a model sees the damage."""

import numpy as np
import numpy.typing as npt
import pytest

from car_damage.model import places


def spot(row: int, column: int) -> npt.NDArray[np.uint8]:
    """A grey photo with a white spot of 20 x 20 pixels."""
    photo = np.full((224, 224, 3), 90, np.uint8)
    photo[row : row + 20, column : column + 20] = 255
    return photo


def white_is_severe(photos: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    """(n, 3) probabilities: the whiter, the more severe."""
    white = np.minimum(np.array([(photo == 255).mean() for photo in photos]) * 100, 1.0)
    return np.stack([1 - white, white / 4, white * 3 / 4], axis=1)


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("grid", [places.GRID, places.COARSE])
@pytest.mark.parametrize(("row", "column"), [(4, 4), (4, 200), (200, 4), (200, 200), (102, 102)])
def test_the_peak_of_the_map_is_where_hiding_makes_the_answer_milder(label: int, grid: int, row: int, column: int) -> None:
    sizes: list[int] = []

    def answer(photos: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
        sizes.append(len(photos))
        return white_is_severe(photos)

    found = places.by_hiding(spot(row, column), label, answer, grid, 8)
    assert found.shape == (grid, grid)
    assert found[int((row + 10) / 224 * grid), int((column + 10) / 224 * grid)] == found.max() == 1
    assert (sum(sizes), max(sizes)) == (grid**2, 8)


def test_a_photo_whose_places_all_say_the_same_has_an_empty_map() -> None:
    assert not places.by_hiding(spot(0, 0) * 0, 0, white_is_severe, 3, 8).any()
    assert not places.from_network(np.ones((4, 4, 3)), 1).any()


def test_a_map_of_the_network_is_that_of_the_answered_class() -> None:
    said = np.zeros((4, 5, 3))
    said[1, 2, 1], said[3, 4, 2] = 7.0, -1.0
    assert places.from_network(said, 1)[1, 2] == 1
    assert places.from_network(said, 2)[3, 4] == 0
