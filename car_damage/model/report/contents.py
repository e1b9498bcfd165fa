"""Everything that the report of a training shows, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from car_damage.model.quality.answers import AnswerQuality
from car_damage.model.quality.bootstrap import Interval
from car_damage.model.quality.evaluation import Evaluation
from car_damage.model.report.scores import Scores


@dataclass(frozen=True)
class Mistake:
    """A wrong answer."""

    jpeg: bytes
    """A thumbnail of the photo."""
    path: str
    label: str
    predicted: str
    probability: float
    """Probability of the predicted class."""


@dataclass(frozen=True)
class CurvePoint:
    """A training with a part of the training photos."""

    share: float
    """Share of the training photos, 0 to 1."""
    photos: int
    macro_f1: float
    interval: Interval | None = None


@dataclass(frozen=True)
class WithoutGroup:
    """A training without the photos of one group, evaluated on the photos of that group."""

    group: str
    photos: int
    """Photos on which both were evaluated."""
    trained_with: float
    """Macro-F1 of the training with the group's photos."""
    trained_without: float


@dataclass(frozen=True)
class Report:
    """The report of a training."""

    network: str
    silver: str
    """Name of the silver table."""
    silver_version: int
    fingerprint: str
    settings: Mapping[str, str]
    """Key -> value, of those that determine the model."""
    photos: Mapping[str, Mapping[str, int]]
    """Split -> class -> photos."""
    left_out: int
    """Photos of the silver version that the training left out."""
    near_duplicates: int
    """Photos that look like a photo of another split."""
    near_duplicate_bits: int
    evaluations: Mapping[str, Evaluation]
    """Split -> scores: test and validation."""
    scores: Scores
    answers: AnswerQuality
    """To the test photos."""
    costs: Sequence[Sequence[float]]
    """costs[true][predicted]: cost of a mistake."""
    group_floor: float
    mistakes: Sequence[Mistake]
    """The most certain ones first."""
    mistakes_in_all: int
    curve: Sequence[CurvePoint] = ()
    """Learning curve, from the fewest photos on. Empty: it was not measured."""
    without_group: Sequence[WithoutGroup] = ()
    """Empty: it was not measured."""
