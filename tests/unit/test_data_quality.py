"""The artifact `data-quality` as text: which files are not used, why, what to do, and their thumbnails."""

from dataclasses import replace
from typing import Any

import pytest

from car_damage.photo import reasons
from car_damage.photo.limits import Limits
from car_damage.pipeline import SilverReport
from car_damage.settings import Settings
from tasks.data_quality import EXPLANATIONS, PICTURES, WITH_THUMBNAIL, markdown
from tasks.markdown import plain, table
from tests import corpus
from tests.fakes import Endpoint, Photos, Runs, Versions, World

FOLDER = "/landing"
REPORT = SilverReport(0, 0, "f", 6, 6, 0, 0, 10, {}, {})


def shown(report: SilverReport, files: dict[str, bytes]) -> str:
    settings = Settings(landing={"folder": FOLDER})  # type: ignore[arg-type]
    platform: Any = World(settings, Photos(files), Versions(), Endpoint({}), Runs({}))
    return markdown(report, platform)


def test_every_reason_has_a_meaning_and_advice() -> None:
    assert set(EXPLANATIONS) == reasons.REASONS
    assert reasons.REASONS > WITH_THUMBNAIL


def test_a_folder_without_rejects_says_so_in_one_line() -> None:
    assert shown(replace(REPORT, files=6), {}) == "**6 of 6 files** in the landing folder are used for training.\n"


def test_the_commonest_reason_comes_first_with_its_share_and_what_is_new() -> None:
    text = shown(replace(REPORT, rejected={"empty": 1, "truncated": 3}, rejected_now={"truncated": 2}), {})
    lines = text.splitlines()
    assert lines[4:6] == [
        "| **truncated** | 3 | 30.0% | 2 | upload it again |",
        "| **empty** | 1 | 10.0% |  | upload it again |",
    ]
    assert "- **empty**: the file has no bytes" in lines


def test_a_duplicate_is_drawn_beside_the_path_of_the_photo_that_it_repeats() -> None:
    path = f"{FOLDER}/major/again.jpg"
    report = replace(REPORT, rejected={"duplicate": 1}, examples={"duplicate": (path,)}, details={path: f"{FOLDER}/major/first.jpg"})
    last = shown(report, {path: corpus.photos()["JPEG"]}).splitlines()[-1]
    assert last.startswith("| ![the photo](data:image/jpeg;base64,")
    assert last.endswith(r" | major\/again\.jpg | duplicate of major\/first\.jpg |")


@pytest.mark.parametrize("files", [{}, {f"{FOLDER}/a.jpg": b"no photo"}])
def test_a_file_that_is_gone_or_cannot_be_drawn_is_named_without_a_picture(files: dict[str, bytes]) -> None:
    text = shown(replace(REPORT, rejected={"truncated": 1}, examples={"truncated": (f"{FOLDER}/a.jpg",)}), files)
    assert text.splitlines()[-1] == r"|  | a\.jpg | truncated |"


def test_what_may_be_too_large_to_be_read_is_not_read() -> None:
    class Untouched(Photos):
        def read(self, path: str) -> bytes:
            raise AssertionError(path)

    settings = Settings(landing={"folder": FOLDER})  # type: ignore[arg-type]
    platform: Any = World(settings, Untouched({}), Versions(), Endpoint({}), Runs({}))
    large = (reasons.TOO_MANY_BYTES, reasons.TOO_MANY_PIXELS)
    report = replace(REPORT, rejected=dict.fromkeys(large, 1), examples={reason: (f"{FOLDER}/{reason}",) for reason in large})
    assert markdown(report, platform).count("too many") >= 4


def test_the_whole_artifact_stays_below_300_kb_whatever_the_photos_are() -> None:
    photo = corpus.encoded(corpus.picture(3, 96, 96).effect_spread(90), "JPEG", quality=95)
    paths = tuple(f"{FOLDER}/{'x' * 200}{number}.jpg" for number in range(200))
    text = shown(replace(REPORT, rejected={"no label": 200}, examples={"no label": paths}), dict.fromkeys(paths, photo))
    assert PICTURES < len(text) < 300_000
    assert text.count("![the photo]") < 200 < text.count("no label")
    assert Limits().max_bytes > len(photo)


def test_a_name_that_looks_like_markdown_is_read_as_it_is() -> None:
    assert plain("a|b [x](http://y) <img src=z>\n`c`") == r"a\|b \[x\]\(http\:\/\/y\) \<img src\=z\>\?\`c\`"
    assert plain("x" * 100, 11) == "xxxxx…xxxxx"
    assert table(("a", "b"), [("1", "2")], "lr") == ["| a | b |", "| --- | ---: |", "| 1 | 2 |"]
