"""What the artifact of a training shows."""

import contextlib
import io

import pytest
from PIL import Image

from car_damage.data.people.doubts import Doubt, Doubts
from car_damage.model.run_files import (
    CONFUSION_MATRIX_FILE,
    DOUBTFUL_LABELS_FILE,
    DOUBTS_FILE,
    RELIABILITY_FILE,
    TRAINING_CURVE_FILE,
    WORST_MISTAKES_FILE,
)
from car_damage.pipeline import TrainReport
from tasks import artifacts, doubtful_labels
from tests.fakes import Runs

ALWAYS = [CONFUSION_MATRIX_FILE, WORST_MISTAKES_FILE, RELIABILITY_FILE]


@pytest.mark.parametrize(
    ("epochs", "plots"),
    [(12.0, [TRAINING_CURVE_FILE, *ALWAYS]), (0.0, ALWAYS)],
)
def test_a_network_without_epochs_has_no_training_curve_and_nothing_is_missing(
    epochs: float, plots: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, **_: shown.append(text))
    monkeypatch.setattr(artifacts, "if_possible", contextlib.nullcontext)  # so that a missing picture is an error
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    artifacts.trained(
        TrainReport("key", "run", "models:/m-1", {"epochs": epochs, "test_accuracy": 0.9}),
        Runs({("run", file): png.getvalue() for file in plots} | {("run", DOUBTS_FILE): Doubts("now", (), 9).written()}),  # type: ignore[arg-type]
    )
    [text] = shown
    assert "None of the 9 labels" in text
    assert [title in text for title in artifacts.PICTURES.values()] == [file in plots for file in artifacts.PICTURES]
    assert ("12 epochs" in text) == bool(epochs)
    assert " 0 epochs" not in text


def test_labels_that_look_wrong_are_shown_with_their_photos() -> None:
    doubts = Doubts("now", (Doubt("0" * 64, "/photos/a|b.jpg", "minor", {"minor": 0.04, "major": 0.96}),), 200)
    said = doubtful_labels.lines("run", Runs({("run", DOUBTS_FILE): doubts.written(), ("run", DOUBTFUL_LABELS_FILE): b"png"}))  # type: ignore[arg-type]
    assert said[0].startswith("1 of 200, asked of models")
    assert said[2].startswith("![Labels that look wrong](data:image/png")
    assert said[-1] == "| \\/photos\\/a\\|b\\.jpg | minor | major | 0.04 |"
