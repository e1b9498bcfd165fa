"""The views of a photo from which a head learns."""

import numpy as np
import pytest

from car_damage.model.networks.views import PLAIN, VIEWS, chosen
from car_damage.pipeline import training_key
from car_damage.settings import Settings, Training
from deployments import demo_photos


@pytest.fixture
def photos() -> np.ndarray:
    from car_damage.photo.decoder import decode

    return np.stack([decode(demo_photos.photo("major", number)).pixels for number in range(2)])


@pytest.mark.parametrize("name", [name for name in VIEWS if name != PLAIN])
def test_a_view_shows_the_same_photo_otherwise_each_time_in_the_same_way(name: str, photos: np.ndarray) -> None:
    before = photos.copy()
    seen = VIEWS[name](photos)
    assert (seen.shape, seen.dtype) == (photos.shape, np.uint8)
    assert np.array_equal(photos, before)
    assert np.array_equal(seen, VIEWS[name](photos))
    assert np.array_equal(seen[1:], VIEWS[name](photos[1:]))
    assert not np.array_equal(seen, photos)
    assert VIEWS[name](photos[:0]).shape == (0, 224, 224, 3)


def test_zoomed_is_the_middle_80_percent_and_softened_has_no_single_pixels() -> None:
    photo = np.zeros((1, 224, 224, 3), np.uint8)
    photo[:, 21:203, 21:203] = 255
    assert VIEWS["zoomed"](photo).min() == 255
    photo[:, 25:199, 25:199] = 0
    assert VIEWS["zoomed"](photo)[0, 0].max() > 0
    grid = np.zeros((1, 224, 224, 3), np.uint8)
    grid[:, ::2, ::2] = 255
    soft = VIEWS["softened"](grid).astype(int)
    assert soft.max() - soft.min() < 8


def test_views_are_those_of_the_settings_and_the_usual_ones_are_no_part_of_the_key() -> None:
    assert chosen(Training()) == ("plain", "mirrored")
    assert chosen(Training(augment=False, views=("zoomed",))) == ("plain",)
    assert chosen(Training(views=("softened", "compressed", "softened"))) == ("plain", "softened", "compressed")
    assert chosen(Training(views=())) == ("plain",)
    transfer = Training(network="transfer", weights="none")
    usual, more = (
        training_key("data", Settings(training=training)) for training in (transfer, transfer.model_copy(update={"views": ("zoomed",)}))
    )
    assert usual != more
    from car_damage.pipeline import _determining

    assert "views" not in _determining(transfer, lambda _: b"")
