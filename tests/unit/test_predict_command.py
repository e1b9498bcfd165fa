"""`car-damage predict` while the endpoint is not ready."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from car_damage.commands.predict import predict
from car_damage.errors import PhotoRefused, RequestRefused, Unavailable
from car_damage.ports import Prediction
from car_damage.settings import Settings
from tests.fakes import Endpoint, Photos, Runs, Versions, World

ANSWERS = {1: {"minor": 0.1, "moderate": 0.2, "major": 0.7}}
STARTING = Unavailable("the model's process is being started again")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "car.jpg"
    path.write_bytes(b"photo")
    return path


def ask(endpoint: Endpoint, photo: Path) -> list[str]:
    lines: list[str] = []
    predict(World(Settings(), Photos({}), Versions(), endpoint, Runs({})), [photo], False, lines.append)  # type: ignore[arg-type]
    return lines


def test_it_waits_for_a_model_that_is_being_started(photo: Path) -> None:
    first = ask(Endpoint(ANSWERS, served=1, refusals=[STARTING] * 20), photo)[0]
    assert first.endswith("car.jpg: major (70.0%; minor 0.100, moderate 0.200, major 0.700)")


@pytest.mark.parametrize(
    ("classes", "review", "end"),
    [
        (("moderate", "major"), True, "0.700); a person must look: it may be moderate or major"),
        ((), True, "0.700); a person must look: less sure than of photos of any class"),
        (("major",), False, "0.700)"),
        (None, None, "0.700)"),
    ],
)
def test_it_says_when_a_person_must_look(photo: Path, classes: tuple[str, ...] | None, review: bool | None, end: str) -> None:
    class Unsure(Endpoint):
        def query(self, photos: Sequence[bytes], *, explain: bool = False) -> list[Prediction]:
            return [replace(answer, classes=classes, review=review) for answer in super().query(photos)]

    assert ask(Unsure(ANSWERS, served=1), photo)[0].endswith(end)


def test_the_photos_of_a_claim_get_a_line_together(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("front.jpg", "rear.jpg")]
    for path in paths:
        path.write_bytes(b"photo")

    class Claims(Endpoint):
        def query(self, photos: Sequence[bytes], *, explain: bool = False) -> list[Prediction]:
            front, rear = super().query(photos)
            return [
                replace(front, label="minor", classes=("minor",), review=False),
                replace(rear, classes=("moderate", "major"), review=True),
            ]

    lines: list[str] = []
    world = World(Settings(), Photos({}), Versions(), Claims(ANSWERS, served=1), Runs({}))
    predict(world, paths, False, lines.append, claim=True)  # type: ignore[arg-type]
    assert lines[2] == f"the claim: minor, shown by {paths[0]}; a person must look at {paths[1]}"
    predict(world, paths, True, lines.append, claim=True)  # type: ignore[arg-type]
    assert json.loads(lines[-1]) == {"claim": "minor", "review": True, "shown_by": [str(paths[0])], "undecided": [str(paths[1])]}


class Picky(Endpoint):
    """Refuses a request if one of its photos is text."""

    def query(self, photos: Sequence[bytes], *, explain: bool = False) -> list[Prediction]:
        if b"text" in photos:
            raise PhotoRefused(f"row {photos.index(b'text')}: not an image")
        return super().query(photos, explain=explain)


def test_a_photo_of_a_claim_without_an_answer_could_show_anything_and_ends_nothing(photo: Path, tmp_path: Path) -> None:
    text, gone = tmp_path / "text.jpg", tmp_path / "gone.jpg"
    text.write_bytes(b"text")
    world = World(Settings(), Photos({}), Versions(), Picky({1: {"minor": 0.9, "moderate": 0.06, "major": 0.04}}, served=1), Runs({}))
    lines: list[str] = []
    predict(world, [gone, photo, text], False, lines.append, claim=True)  # type: ignore[arg-type]
    assert lines == [
        f"{gone}: no answer: {gone} cannot be read: No such file or directory",
        f"{photo}: minor (90.0%; minor 0.900, moderate 0.060, major 0.040)",
        f"{text}: no answer: row 0: not an image",
        f"the claim: minor, shown by {photo}; a person must look at {gone}, {text}",
        "answered by model-1 in 10 ms",
    ]
    predict(world, [text, gone], True, lines.append, claim=True)  # type: ignore[arg-type]
    assert [json.loads(line) for line in lines[5:]] == [
        {"path": str(text), "refused": "row 0: not an image"},
        {"path": str(gone), "refused": f"{gone} cannot be read: No such file or directory"},
        {"claim": None, "review": True, "shown_by": [], "undecided": [str(text), str(gone)]},
    ]
    with pytest.raises(RequestRefused, match=r"text\.jpg: not an image"):
        predict(world, [photo, text], False, lines.append)  # type: ignore[arg-type]
    with pytest.raises(RequestRefused, match=r"gone\.jpg cannot be read"):
        predict(world, [photo, gone], False, lines.append)  # type: ignore[arg-type]


def test_what_is_refused_for_another_reason_than_a_photo_ends_a_claim_too(photo: Path) -> None:
    world = World(Settings(), Photos({}), Versions(), Endpoint(ANSWERS, served=1, refusals=[RequestRefused("the token")]), Runs({}))
    with pytest.raises(RequestRefused, match="the token"):
        predict(world, [photo], False, print, claim=True)  # type: ignore[arg-type]


def test_it_gives_up_with_what_the_endpoint_said(photo: Path) -> None:
    endpoint = Endpoint(ANSWERS, served=1, refusals=[STARTING] * 1000)
    with pytest.raises(Unavailable, match="being started again"):
        ask(endpoint, photo)
    assert 0 < len(endpoint.refusals) < 1000


@pytest.mark.parametrize("failed", [True, False], ids=["failed", "absent"])
def test_it_does_not_wait_for_an_endpoint_that_will_not_serve(photo: Path, failed: bool) -> None:
    endpoint = Endpoint(ANSWERS, failed=failed, refusals=[STARTING] * 2)
    with pytest.raises(Unavailable, match="being started again"):
        ask(endpoint, photo)
    assert len(endpoint.refusals) == 1


def test_it_does_not_wait_for_a_server_that_is_not_there(photo: Path) -> None:
    endpoint = Endpoint(ANSWERS, served=1, refusals=[STARTING] * 2, outages=[Unavailable("nothing answers")])
    with pytest.raises(Unavailable, match="nothing answers"):
        ask(endpoint, photo)
