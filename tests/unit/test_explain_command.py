"""`car-damage explain`."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from car_damage.adapters.folder import Folder
from car_damage.commands.explain import explain, picture
from car_damage.errors import PhotoRefused, RequestRefused
from car_damage.photo.decoder import decode
from car_damage.ports import Prediction
from car_damage.settings import Settings
from tests import corpus
from tests.fakes import Endpoint, Photos, Runs, Versions, World

ANSWERS = {1: {"minor": 0.1, "moderate": 0.2, "major": 0.7}}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "car.jpg"
    path.write_bytes(corpus.encoded(corpus.picture(1, 320, 240), "JPEG"))
    return path


def run(endpoint: Endpoint, photo: Path, to: Path | None = None) -> str:
    lines: list[str] = []
    explain(World(Settings(), Photos({}), Versions(), endpoint, Runs({})), photo, to, lines.append)  # type: ignore[arg-type]
    return lines[0]


def test_the_picture_lies_beside_the_photo_or_where_it_is_wanted(photo: Path, tmp_path: Path) -> None:
    assert run(Endpoint(ANSWERS, served=1), photo) == f"{photo}: major (70.0%); {tmp_path}/_car-explained.jpg shows where"
    with Image.open(tmp_path / "_car-explained.jpg") as shown:
        assert shown.size == (320, 240)
    assert [file.path for file in Folder().list(str(tmp_path))] == [str(photo)], (
        "it would be trained with, or scored as a photo of the claim"
    )
    run(Endpoint(ANSWERS, served=1), photo, tmp_path / "map.jpg")
    assert (tmp_path / "map.jpg").read_bytes() == (tmp_path / "_car-explained.jpg").read_bytes()
    with pytest.raises(RequestRefused, match=r"nowhere/map\.jpg cannot be written: No such file"):
        run(Endpoint(ANSWERS, served=1), photo, tmp_path / "nowhere" / "map.jpg")


def test_a_refusal_names_the_file(photo: Path) -> None:
    class Refusing(Endpoint):
        def query(self, photos: "list[bytes]", *, explain: bool = False) -> list[Prediction]:  # type: ignore[override]
            raise PhotoRefused("row 0: not an image")

    with pytest.raises(PhotoRefused, match=rf"^{photo}: not an image$"):
        run(Refusing(ANSWERS, served=1), photo)


def test_a_version_of_an_earlier_release_cannot_say_where(photo: Path, tmp_path: Path) -> None:
    class Earlier(Endpoint):
        def query(self, photos: "list[bytes]", *, explain: bool = False) -> list[Prediction]:  # type: ignore[override]
            return [replace(answer, map=None) for answer in super().query(photos)]

    with pytest.raises(RequestRefused, match="model-1 cannot say where it sees damage"):
        run(Earlier(ANSWERS, served=1), photo)
    assert list(tmp_path.iterdir()) == [photo]


def test_the_place_that_speaks_most_for_the_damage_is_red_and_the_others_stay_as_they_are() -> None:
    grey = Image.new("RGB", (224, 224), (120, 120, 120))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    seen = np.zeros((7, 7))
    seen[6, 0] = 1
    shown = np.asarray(Image.open(io.BytesIO(picture(decode(buffer.getvalue()), seen))), np.int64)
    red, green, blue = shown[208, 16]
    assert red > 200
    assert max(green, blue) < 80
    assert np.abs(shown[16, 208] - 120).max() < 10
