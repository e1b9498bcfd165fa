"""What a person sees of files that cannot be used: small pictures, and a page that stays small."""

import io
from typing import Any

import pytest
from PIL import Image

from car_damage.pipeline import SilverReport, ValidateReport
from car_damage.reasons import REASONS
from car_damage.thumbnails import SIDE, thumbnail
from tasks import data_quality, naming
from tests import corpus
from tests.fakes import Photos


def report(rejected: dict[str, int], examples: dict[str, tuple[str, ...]]) -> SilverReport:
    return SilverReport(1, 0, "f", 10, 10, 0, 0, 10 + sum(rejected.values()), rejected, {}, examples)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would be sent to the Prefect server."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(data_quality, "create_markdown_artifact", lambda text, **more: told.update(text=text, **more))
    return told


@pytest.mark.parametrize(("name", "data"), corpus.photos().items(), ids=list(corpus.photos()))
def test_every_format_has_a_thumbnail_in_its_own_shape(name: str, data: bytes) -> None:
    del name
    drawn = thumbnail(data)
    assert drawn is not None
    image = Image.open(io.BytesIO(drawn))
    assert (image.format, image.size) == ("JPEG", (SIDE, SIDE * 3 // 4))
    assert len(drawn) < 10_000


def test_of_a_jpeg_that_was_cut_the_part_that_is_there_is_drawn() -> None:
    whole = corpus.photos(width=640, height=480)["JPEG"]
    drawn = thumbnail(whole[: len(whole) // 2])
    assert drawn is not None
    full = thumbnail(whole)
    assert full is not None
    half, all_of_it = (Image.open(io.BytesIO(one)).convert("L") for one in (drawn, full))
    top = (0, 0, 96, 24)
    assert max(abs(a - b) for a, b in zip(half.crop(top).tobytes(), all_of_it.crop(top).tobytes(), strict=True)) < 60


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"no photo at all", corpus.photos()["PNG"][:200]])
def test_where_nothing_can_be_drawn_there_is_no_thumbnail(data: bytes) -> None:
    assert thumbnail(data) is None


def test_a_photo_of_too_many_pixels_is_not_decoded() -> None:
    assert thumbnail(corpus.encoded(Image.new("1", (20_000, 20_000)), "PNG")) is None


def test_the_page_shows_each_reason_with_its_photos_and_what_to_do(shown: dict[str, Any]) -> None:
    files = Photos({"/l/minor/a.jpg": corpus.photos()["JPEG"], "/l/minor/b|`c.jpg": b"x"})
    examples = {"duplicate": ("/l/minor/a.jpg",), "corrupt": ("/l/minor/b|`c.jpg", "/l/minor/gone.jpg")}
    data_quality.data_quality(report({"corrupt": 2, "duplicate": 1}, examples), files)
    rows = [line for line in shown["text"].splitlines() if line.startswith("| ") and "why" not in line]
    assert rows[0] == "| corrupt | 2 | 15.4% | `minor/b??c.jpg`<br>`minor/gone.jpg` |"
    assert rows[1].startswith("| duplicate | 1 | 7.7% | ![](data:image/jpeg;base64,")
    assert "- **duplicate**: nothing: the same photo is used once" in shown["text"]
    assert (shown["key"], shown["description"]) == ("data-quality", "3 of 13 files are not used")


def test_the_page_stays_small_however_many_photos_there_are(shown: dict[str, Any]) -> None:
    noisy = corpus.encoded(Image.effect_noise((900, 900), 120), "JPEG", quality=95)
    reasons = [f"reason {number}" for number in range(60)]
    files = Photos({f"/l/{reason}/{number}.jpg": noisy for reason in reasons for number in range(3)})
    examples = {reason: tuple(f"/l/{reason}/{number}.jpg" for number in range(3)) for reason in reasons}
    data_quality.data_quality(report(dict.fromkeys(reasons, 3), examples), files)
    assert 200_000 < len(shown["text"]) < 300_000


def test_every_reason_has_something_to_do() -> None:
    assert set(data_quality.TO_DO) == REASONS


@pytest.mark.parametrize(
    ("accepted", "rejected", "vanished", "name"),
    [
        (55, 2, 0, "57 new photos"),
        (1, 0, 3, "1 new photo"),
        (0, 0, 1, "1 photo gone"),
        (0, 0, 0, "no new photos"),
        (1500, 0, 0, "1,500 new photos"),
    ],
)
def test_a_run_is_named_after_what_landed(accepted: int, rejected: int, vanished: int, name: str) -> None:
    validated = ValidateReport(60, accepted, {"empty": rejected} if rejected else {}, (), 0, 0, vanished, 1, "f")
    assert naming._what(validated) == name


def test_a_stage_that_runs_in_no_flow_is_not_named() -> None:
    naming.name_run(ValidateReport(1, 1, {}, (), 0, 0, 0, 1, "f"))
