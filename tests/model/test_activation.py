"""A network on a backbone says of each place of a photo how much it speaks for the damage."""

import base64
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pytest

from car_damage.model import onnx_network, places
from car_damage.model.networks import cnn, export, onnx_parts, startup
from car_damage.model.networks.activation import with_places
from car_damage.model.networks.backbone import Backbone
from car_damage.model.networks.heads import Head
from car_damage.model.onnx_network import OnnxNetwork
from car_damage.model.served.served_model import PhotoClassifier
from tests.corpus import encoded, picture

if TYPE_CHECKING:
    import keras


@pytest.fixture(scope="module")
def backbone() -> "keras.Model":
    """(n, 224, 224, 3) uint8 -> (n, 2): the mean brightness, from maps of 14 x 14 and of 7 x 7."""
    startup.import_quietly()
    import keras
    from keras import layers

    photo = keras.Input((224, 224, 3), dtype="uint8")
    maps = layers.AveragePooling2D(16)(layers.Rescaling(1 / 255)(photo))
    grey = layers.Conv2D(1, 1, use_bias=False)
    fine = grey(maps)
    grey.set_weights([np.full((1, 1, 3, 1), 1 / 3)])
    means = [layers.GlobalAveragePooling2D()(one) for one in (fine, layers.AveragePooling2D(2)(fine))]
    return keras.Model(photo, layers.Concatenate()(means))


@pytest.mark.parametrize("kind", ["softmax", "ordinal"])
def test_the_exported_network_sees_damage_in_the_corner_where_it_is_and_answers_as_before(
    kind: Literal["softmax", "ordinal"], backbone: "keras.Model", tmp_path: Path
) -> None:
    outputs = 3 if kind == "softmax" else 2
    head = Head(np.tile(np.arange(outputs, dtype=np.float32) * 5 + 1, (2, 1)), np.full(outputs, -1, np.float32), kind)
    network = head.on(backbone)
    export.write(with_places(network) or network, tmp_path / "n.onnx")
    exported = OnnxNetwork(tmp_path / "n.onnx")
    photo = np.full((1, 224, 224, 3), 60, np.uint8)
    photo[0, 180:200, 20:40] = 255
    assert exported(photo) == pytest.approx(np.asarray(network(photo)), abs=1e-6)
    said = exported.places(photo)
    assert said is not None
    assert said.shape == (1, 14, 14, 3)
    for label in range(3):
        found = places.from_network(said[0], label)
        down, right = np.unravel_index(found.argmax(), found.shape)
        assert (180 <= (down + 0.5) * 16 <= 200, 20 <= (right + 0.5) * 16 <= 40) == (True, True)


@pytest.mark.parametrize("kind", ["softmax", "ordinal"])
def test_a_network_made_of_an_exported_backbone_and_a_head_says_the_same(
    kind: Literal["softmax", "ordinal"], backbone: "keras.Model"
) -> None:
    seen = Backbone(backbone, {}).exported([], lambda: np.zeros((0, 224, 224, 3), np.uint8))
    assert seen.onnx is not None, seen.why_keras
    outputs = 3 if kind == "softmax" else 2
    head = Head(np.random.default_rng(1).normal(size=(2, outputs)).astype(np.float32), np.zeros(outputs, np.float32), kind)
    network = with_places(head.on(backbone))
    assert network is not None
    photos = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    answers, said = (np.asarray(one) for one in network(photos))
    whole = onnx_parts.with_head(seen.onnx, head)
    again = onnx_parts.backbone_of(whole, seen.digest)
    assert again is not None
    for made in (whole, onnx_parts.with_head(again, head)):
        exported = OnnxNetwork(made)
        assert exported(photos) == pytest.approx(answers, abs=1e-6)
        assert exported.places(photos) == pytest.approx(said, abs=1e-5)


def test_what_an_ordinal_head_says_of_all_places_adds_up_to_what_it_says_of_the_photo(backbone: "keras.Model") -> None:
    head = Head(np.array([[1, 2], [3, -4]], np.float32), np.zeros(2, np.float32), "ordinal")
    network = with_places(head.on(backbone))
    assert network is not None
    photos = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    said = np.asarray(network(photos)[1]).mean(axis=(1, 2))
    assert said[:, 1:] == pytest.approx(np.asarray(backbone(photos)) @ head.kernel, abs=1e-5)
    assert said[:, 0] == pytest.approx(said[:, 1])


def test_a_network_that_does_not_decide_on_means_of_maps_says_nothing_of_places(backbone: "keras.Model") -> None:
    import keras

    assert with_places(cnn.cnn(3)) is None
    pooled = keras.Model(backbone.input, keras.layers.GlobalMaxPooling2D()(backbone.layers[3].output))
    assert with_places(Head(np.ones((1, 3), np.float32), np.ones(3, np.float32), "softmax").on(pooled)) is None


@pytest.mark.parametrize(("small", "grid"), [(True, places.GRID), (False, places.COARSE)])
def test_a_network_that_says_nothing_of_places_is_asked_again_ten_times_at_most_unless_it_is_small(
    small: bool, grid: int, backbone: "keras.Model", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    pooled = keras.Model(backbone.input, keras.layers.GlobalMaxPooling2D()(backbone.layers[3].output))
    export.write(Head(np.ones((1, 3), np.float32), np.ones(3, np.float32), "softmax").on(pooled), tmp_path / "n.onnx")
    asked: list[int] = []

    class Counting(OnnxNetwork):
        def __call__(self, photos: npt.NDArray[np.uint8], training: bool = False) -> npt.NDArray[np.float32]:
            asked.append(len(photos))
            return super().__call__(photos, training)

    monkeypatch.setattr(onnx_network, "OnnxNetwork", Counting)
    model, config = PhotoClassifier(), {"classes": ["minor", "moderate", "major"], "small": small}
    model.load_context(SimpleNamespace(artifacts={"onnx": str(tmp_path / "n.onnx")}, model_config=config))
    (row,) = model.classify([base64.b64encode(encoded(picture(), "JPEG")).decode()], {"explain": True})
    assert (np.shape(row["map"]), sum(asked)) == ((grid, grid), 1 + grid**2)
