"""Fine-tuning: the upper layers of a backbone learn further, together with the head, and stay so only where that wins.

It starts from the backbone and the fitted head. The lower layers stay as they are, so their maps are computed once. Batch normalisation is
frozen, because a few thousand photos would spoil its means. Whether it wins, and after how many epochs, is decided by cross-validation in
the head's own folds. The same photos, settings and seed give the same weights on the same machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from car_damage.machine import Scratch
from car_damage.model.networks import heads, startup
from car_damage.model.networks.augmentation import wide
from car_damage.model.networks.tuning.cutting import cut
from car_damage.model.networks.tuning.learner import Learner
from car_damage.model.networks.tuning.maps import Maps, Rows, View, maps_of
from car_damage.model.pixels.photos import Photos
from car_damage.model.quality.bootstrap import Interval
from car_damage.model.quality.evaluation import confusion_matrix, counts_of, macro_f1, macro_f1_of
from car_damage.model.quality.paired import cells_of, intervals
from car_damage.settings import Training
from car_damage.stage import Progress

if TYPE_CHECKING:
    import keras

Answers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

COPIES = 4
"""Views of each photo that `training.augmentation = "wide"` adds."""


@dataclass(frozen=True)
class FrozenHead:
    """What the head has learned from while the backbone was frozen, and what came of it."""

    features: heads.Floats
    """(n, views, d)."""
    labels: Labels
    """(n,)."""
    groups: Rows
    """(n,) photos of one group are in one fold."""
    classes: int
    fitted: heads.Fitted


@dataclass(frozen=True)
class TuningResult:
    """The head that is kept, and what cross-validation said."""

    head: heads.Head
    out_of_fold: Answers | None
    """(n, classes): of what is kept; NaN for a photo that could not be read any more. None: there was no cross-validation."""
    metrics: dict[str, float] = field(default_factory=dict)
    """`fine_tuned` 1 or 0; `fine_tuning_gain` in macro-F1 out of fold, with its interval, and the epochs. Empty: nothing was tuned."""

    @property
    def won(self) -> bool:
        """The backbone has learned, too."""
        return bool(self.metrics.get("fine_tuned"))


@dataclass(frozen=True)
class Verdict:
    """What cross-validation says of fine-tuning."""

    scores: npt.NDArray[np.float64]
    """(epochs + 1,) macro-F1 out of fold before the first epoch and after each."""
    out_of_fold: Answers
    gain: float
    interval: Interval

    @property
    def epochs(self) -> int:
        """The first number with the best score; 0: the frozen head's."""
        return int(self.scores.argmax())

    @property
    def wins(self) -> bool:
        """The whole interval of the gain is above 0, so that chance does not explain it."""
        return self.epochs > 0 and self.interval[0] > 0


def tune(  # noqa: PLR0917 - what learns, from what, and how
    network: "keras.Model",
    frozen: FrozenHead,
    photos: Photos,
    views: Sequence[View],
    settings: Training,
    champion: "keras.Model | None",
    progress: Progress,
) -> TuningResult:
    """Train the upper layers of a backbone in place, if cross-validation says that they win; otherwise they are as before.

    Args:
        network: the backbone, (n, 224, 224, 3) uint8 -> (n, d).
        frozen: of the photos, in their order.
        photos: to learn from.
        views: of which a photo has one at random in each epoch; the first one is the photo as the served model gets it.
        settings: of training.
        champion: starts the last training in place of the backbone. Cross-validation does without: it has learned from all folds.
        progress: called for the steps `features` and `epoch`.

    Raises:
        SettingsError: the backbone cannot be cut at `training.fine_tune_from`.
        Unavailable, PhotoChanged: see `maps_of`.
    """
    startup.repeat(settings.seed)
    parts, start, before = cut(network, settings.fine_tune_from), frozen.fitted.head, frozen.fitted.out_of_fold
    if before is None:
        return TuningResult(start, None, {"fine_tuned": 0.0})
    with Scratch("maps") as folder, Learner(parts.upper, frozen.features, start, settings) as learner:
        maps = maps_of(parts.lower, photos, [*views, *_copies(settings)], folder, progress)
        verdict = cross_validated(learner, maps, frozen, before, settings, progress)
        metrics = {
            "fine_tuned": float(verdict.wins),
            "fine_tuning_epochs": float(verdict.epochs),
            "fine_tuning_gain": verdict.gain,
            "fine_tuning_gain_low": verdict.interval[0],
            "fine_tuning_gain_high": verdict.interval[1],
        }
        learner.restart(start)
        if not verdict.wins:
            return TuningResult(start, before, metrics)
        if champion is not None:
            start_from(learner, start.on(network), champion, settings)
        random = np.random.default_rng(settings.seed)
        for epoch in range(verdict.epochs):
            progress("epoch", epoch, verdict.epochs, "fine-tuning with all training photos")
            learner.epoch(epoch, maps, frozen.labels, np.flatnonzero(maps.there), random)
        return TuningResult(learner.head, verdict.out_of_fold, metrics)


def _copies(settings: Training) -> list[View]:
    random = np.random.default_rng(settings.seed)
    return [lambda pixels: wide(pixels, random)] * (COPIES if settings.augment and settings.augmentation == "wide" else 0)


def start_from(learner: Learner, network: "keras.Model", champion: "keras.Model", settings: Training) -> None:
    """Let a learner of the upper part of a network begin where a champion of the same shape has ended."""
    learner.restart(heads.head_of(champion, settings.head))
    upper = {id(variable) for variable in learner.upper.weights}
    for variable, value in zip(network.weights, champion.get_weights(), strict=True):
        if id(variable) in upper:
            variable.assign(value)


def cross_validated(  # noqa: PLR0917 - what learns, from what, and what it is compared with
    learner: Learner, maps: Maps, frozen: FrozenHead, before: Answers, settings: Training, progress: Progress
) -> Verdict:
    """Fine-tune in each fold of the head, and ask about the photos that were left out.

    Args:
        learner: in its block. Where it ends is of no use.
        maps: of all photos.
        frozen: of the same photos.
        before: (n, classes): what the frozen head says out of fold.
        settings: of training.
        progress: called for the step `epoch`.
    """
    parts = heads.folds(frozen.labels, frozen.groups, settings.seed)
    answers = np.full((settings.fine_tune_epochs + 1, len(frozen.labels), frozen.classes), np.nan)
    fold_of = np.full(len(frozen.labels), -1)
    for fold, (learned, asked) in enumerate(parts):
        progress("epoch", fold, len(parts), f"fine-tuning, fold {fold + 1} of {len(parts)}")
        here = asked[maps.there[asked]]
        fold_of[here] = fold
        answers[:, here] = _fold(learner, maps, frozen, learned[maps.there[learned]], here, settings)
    return _verdict(answers, fold_of, frozen.labels, before, settings.seed)


def _fold(learner: Learner, maps: Maps, frozen: FrozenHead, learned: Rows, asked: Rows, settings: Training) -> Answers:  # noqa: PLR0917
    """(epochs + 1, asked, classes): the answers before the first epoch and after each."""
    of, labels = frozen.features[learned], frozen.labels[learned]
    learner.restart(heads.with_strength(of, labels, frozen.classes, settings.head, frozen.fitted.strength, settings.components))
    random, answers = np.random.default_rng(settings.seed), [learner.answers(maps, asked)]
    for epoch in range(settings.fine_tune_epochs):
        learner.epoch(epoch, maps, frozen.labels, learned, random)
        answers.append(learner.answers(maps, asked))
    return np.stack(answers)


def _verdict(answers: Answers, fold_of: Rows, labels: Labels, before: Answers, seed: int) -> Verdict:
    """Choose the epochs, for each fold by the other folds: so no fold's answers are chosen by its own labels.

    Args:
        answers: (epochs + 1, n, classes) out of fold, after each number of epochs.
        fold_of: (n,) the fold that a photo was asked in; -1: none.
        labels: (n,).
        before: (n, classes): those of the frozen head.
        seed: of the interval.
    """
    asked, classes = np.flatnonzero(fold_of >= 0), before.shape[1]
    out_of_fold = np.full(before.shape, np.nan)
    for fold in np.unique(fold_of[asked]):
        others, here = asked[fold_of[asked] != fold], fold_of == fold
        out_of_fold[here] = answers[_scores(answers[:, others], labels[others]).argmax()][here]
    tuned, frozen, truth = out_of_fold[asked].argmax(axis=1), before[asked].argmax(axis=1), labels[asked]
    gain = macro_f1(truth, tuned, classes) - macro_f1(truth, frozen, classes)
    spread = intervals(cells_of(truth, tuned, frozen, classes), macro_f1_of, seed).gain
    return Verdict(_scores(answers[:, asked], truth), out_of_fold, gain, spread)


def _scores(answers: Answers, labels: Labels) -> npt.NDArray[np.float64]:
    """(epochs + 1,) macro-F1 of answers (epochs + 1, m, classes) to these photos."""
    matrices = np.stack([confusion_matrix(labels, said, answers.shape[2]) for said in answers.argmax(axis=2)])
    return macro_f1_of(counts_of(matrices))
