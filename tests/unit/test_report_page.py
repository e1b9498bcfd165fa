"""The report of a training as a page: it is whole, it loads nothing, and what people wrote stays text."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from car_damage.data.photos.groups import MIN_PHOTOS, Group
from car_damage.model.quality.answers import NetworkOutput, fitted, quality_of
from car_damage.model.quality.evaluation import evaluate
from car_damage.model.report.contents import CurvePoint, Mistake, Report, WithoutGroup
from car_damage.model.report.page import GROUPS, page
from car_damage.model.report.scores import scores_of
from car_damage.photo.thumbnails import drawn
from car_damage.promotion.evidence import costs
from car_damage.settings import Answers, Promotion

CLASSES = ("minor", "moderate", "<b>major</b>")
NASTY = "/photos/minor/\"><script>alert(1)</script><img src=http://evil.example/x onerror='x'>&amp;{{7*7}}.jpg"


def answers(n: int = 120, right: float = 0.8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities."""
    random = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    said = np.where(random.random(n) < right, truth, (truth + 1) % 3)
    return truth, 0.1 + 0.7 * np.eye(3)[said]


def report(groups: tuple[Group, ...] | None = None, mistakes: int = 24, side: int = 192) -> Report:
    truth, probabilities = answers()
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    groups = (
        (Group("size_large", "large ones", np.arange(100)), Group("source_b", "folder <i>b</i>", np.arange(100, 120)))
        if groups is None
        else groups
    )
    prices = costs(CLASSES, {"<b>major</b>": {"minor": 7.0}})
    evaluation = evaluate(truth, probabilities, CLASSES)
    said = NetworkOutput(truth, probabilities, np.full(len(truth), 50_000))
    return Report(
        network="cnn",
        silver="insurance_uc.silver.training_images",
        silver_version=12,
        fingerprint="ab" * 32,
        settings={"training.epochs": "40", "training.weights": NASTY},
        photos={"train": {"minor": 4321}, "validation": {"minor": 3}, "test": dict.fromkeys(CLASSES, 40)},
        left_out=0,
        near_duplicates=0,
        near_duplicate_bits=8,
        evaluations={"test": evaluation, "validation": evaluation},
        scores=scores_of(truth, probabilities, prices, CLASSES, groups, Promotion().seed),
        answers=quality_of(said, fitted(said, Answers(coverage=0.85), prices), prices, 2.5),
        costs=prices.tolist(),
        group_floor=0.0,
        mistakes=[Mistake(drawn(noise, 1000, 1000, side), NASTY, "<b>major</b>", "minor", 0.9)] * mistakes,
        mistakes_in_all=mistakes,
    )


class Seen(HTMLParser):
    """The tags of a page, what they load, and the text between them."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(data.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data + " "


def test_the_page_has_all_its_parts() -> None:
    seen = Seen(page(report()))
    parts = (
        *("macro-F1", "accuracy", "cost of mistakes, a photo", "log loss", "95 % interval"),
        *("By class", "moderate", "true \\ predicted", "cost 7", "By group", "size_large", "large ones"),
        f"1 group with fewer than {MIN_PHOTOS} test photos has no score",
        *("An answer or a person", "Calibration error", "accuracy of the others", "which costs 2.5"),
        *("Would more photos help?", "It takes four trainings", "The most certain mistakes", "24 of 24 mistakes"),
        *("Near-duplicates across splits", "0, as it should be", "4,321", "training.epochs", "version 12", "abababababab"),
    )
    assert [part for part in parts if part not in seen.text] == []
    assert seen.open == []
    assert seen.tags.count("img") == 24
    assert "Photos could not be read" not in seen.text


def test_the_optional_parts_are_there_once_they_were_measured() -> None:
    points = (CurvePoint(0.25, 100, 0.5), CurvePoint(1.0, 400, 0.625, (0.6, 0.65)))
    more = replace(
        report(), curve=points, without_group=(WithoutGroup("source_b", 33, 0.75, 0.5),), left_out=3, near_duplicates=2, group_floor=0.99
    )
    seen = Seen(page(more))
    for part in ("0.625", "0.600 to 0.650", "-0.250", "3 photos could not be read", "2 photos", "asks for 0.99"):
        assert part in seen.text
    assert {"polyline", "circle"} <= set(seen.tags)
    assert "It takes four trainings" not in seen.text
    assert seen.text.count("problem") == 0
    assert ("class", "problem") in seen.attributes


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    seen = Seen(page(report()))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "a"} & set(seen.tags)
    loads = [value for name, value in seen.attributes if name in {"src", "href", "srcset", "action", "poster", "data", "background"}]
    assert {value[:23] for value in loads} == {"data:image/jpeg;base64,"}
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    style = re.findall(r"<style>(.*?)</style>", page(report()).decode(), re.DOTALL)[0]
    assert "url(" not in style
    assert "@import" not in style
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in seen.attributes


def test_what_people_wrote_stays_text() -> None:
    text = page(report()).decode()
    assert "<script" not in text
    assert "<b>major" not in text
    assert "<i>b" not in text
    seen = Seen(text.encode())
    assert "<b>major</b>" in seen.text
    assert ("title", NASTY) in seen.attributes
    assert NASTY in seen.text


def test_characters_that_no_file_can_hold_are_replaced() -> None:
    odd = replace(report(), network="\ud800 network")
    assert "? network" in page(odd).decode("utf-8")


def test_a_page_of_many_groups_and_noisy_photos_has_two_megabytes_at_most() -> None:
    groups = tuple(Group(f"source_{number}", "x" * 500, np.arange(40)) for number in range(200))
    data = page(report(groups))
    assert len(data) < 2_000_000
    seen = Seen(data)
    assert f"{200 - GROUPS} more groups have higher scores" in seen.text


def test_a_training_without_mistakes_says_so() -> None:
    assert "No mistake on the test photos" in Seen(page(replace(report(), mistakes=(), mistakes_in_all=0))).text


def test_scores_are_those_of_the_evaluation_and_lie_in_their_intervals() -> None:
    truth, probabilities = answers()
    group = Group("size_large", "", np.arange(60))
    evaluation = evaluate(truth, probabilities, CLASSES)
    scores = scores_of(truth, probabilities, costs(CLASSES, {}), CLASSES, (group, Group("small", "", np.arange(5))), 0)
    values = {figure.name: figure.value for figure in scores.figures}
    assert (values["macro-F1"], values["accuracy"], values["log loss"]) == pytest.approx(
        (evaluation.macro_f1, evaluation.accuracy, evaluation.log_loss)
    )
    assert values["cost of mistakes, a photo"] == pytest.approx(1 - evaluation.accuracy)
    assert all(figure.interval[0] < figure.value < figure.interval[1] for figure in scores.figures)
    for score, spread in zip(evaluation.classes, scores.by_class, strict=True):
        assert spread.recall[0] <= score.recall <= spread.recall[1]
        assert spread.precision[0] <= score.precision <= spread.precision[1]
        assert spread.f1[0] <= score.f1 <= spread.f1[1]
    of_group = evaluate(truth[:60], probabilities[:60], CLASSES).macro_f1
    assert scores.metrics() == pytest.approx({"test_macro_f1_group_size_large": of_group, "test_worst_group_macro_f1": of_group})
    assert scores.small_groups == 1


def test_without_a_group_that_is_large_enough_there_is_no_worst_one() -> None:
    truth, probabilities = answers()
    assert scores_of(truth, probabilities, costs(CLASSES, {}), CLASSES, (), 0).metrics() == {}


def test_a_thumbnail_has_the_shape_of_the_photo() -> None:
    pixels = np.zeros((224, 224, 3), np.uint8)
    assert Image.open(io.BytesIO(drawn(pixels, 640, 320, 192))).size == (192, 96)
    assert Image.open(io.BytesIO(drawn(pixels, 100, 50, 192))).size == (100, 50)
