"""Judges a run's model against the champion: on which test photos, by whose answers, and with what the rule has to know beside them.

Both models answer the same photos. A photo that one of them was trained on, or one that looks like it, takes no part. A photo that is
gone or cannot be read is left out, and the others decide if they are enough.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.photos.checked import readable
from car_damage.data.photos.groups import groups_of
from car_damage.data.photos.splits import TEST, TRAIN
from car_damage.data.photos.trained import COLUMNS, seen, trained_photos
from car_damage.errors import CarDamageError, ModelRefused, RegistryError, Terminal, TooFewPhotos
from car_damage.machine import Scratch
from car_damage.model.quality.evaluation import Labels
from car_damage.model.run_files import PREDICTIONS_FILE, TRAINED_FILE, read_predictions, read_trained
from car_damage.model.served.process import ModelAnswer, answers
from car_damage.moves import DONE
from car_damage.photo.columns import probability_column
from car_damage.pipeline import RegisterRequest
from car_damage.ports import SILVER_TAG, ModelVersion, Platform
from car_damage.promotion.rule import Answers, Circumstances, Decision, decide
from car_damage.promotion.tags import JUDGED_AGAINST, is_decided, named
from car_damage.stage import Progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PhotosToJudge:
    """Test photos of one silver version, and the candidate's predictions for them after its training."""

    rows: pa.Table
    """path, label, sha256, phash, width, height: n rows."""
    truth: Labels
    """(n,)"""
    probabilities: npt.NDArray[np.float64]
    """(n, classes)"""
    trained: pa.Table | None
    """The photos that the candidate was trained on: see `car_damage.data.photos.trained`. None: it is unknown."""
    fresh: npt.NDArray[np.bool_] | None = None
    """(n,) whether each photo, and all that look like it, arrived after the champion was chosen; None if that is unknown."""

    @property
    def trained_on(self) -> int:
        """Photos of the candidate's training split."""
        return 0 if self.trained is None else self.trained["split"].to_pylist().count(TRAIN)

    @property
    def candidate(self) -> Labels:
        """(n,) the candidate's predictions."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    def only(self, chosen: npt.NDArray[np.bool_]) -> "PhotosToJudge":
        """Some of the photos."""
        return replace(
            self,
            rows=self.rows.filter(pa.array(chosen)),
            truth=self.truth[chosen],
            probabilities=self.probabilities[chosen],
            fresh=None if self.fresh is None else self.fresh[chosen],
        )


@dataclass(frozen=True)
class Judgement:
    """A decision, and what was noticed on the way."""

    decision: Decision
    left_out: Mapping[str, CarDamageError]
    """Path -> why the photo took no part: it has changed, or cannot be read."""


def read_test_photos(request: RegisterRequest, platform: Platform) -> PhotosToJudge:
    """The test photos for which the candidate has predictions. Its training left out those that could not be read.

    Raises:
        TooFewPhotos: silver has no test photo.
        RegistryError: the candidate has predictions for none of them.
    """
    classes = platform.settings.labels.classes
    columns = ["path", "label", "sha256", "phash", "width", "height", "split"]
    silver, _ = platform.tables.read(platform.settings.tables.silver, columns, request.silver_version)
    rows = silver.filter(pc.equal(silver["split"], TEST)).sort_by("sha256")
    if not rows.num_rows:
        raise TooFewPhotos(f"silver version {request.silver_version} has no test photo; add photos of each class and run again")
    predicted = read_predictions(platform.tracking.fetch(request.run_id, PREDICTIONS_FILE))
    at = pc.index_in(rows["sha256"], value_set=predicted["sha256"])
    rows, at = rows.filter(pc.is_valid(at)), at.drop_null()
    if not rows.num_rows:
        raise RegistryError(
            f"run {request.run_id} has no prediction for the test photos of silver version {request.silver_version}; "
            "run again with train_again"
        )
    probabilities = np.column_stack([predicted[probability_column(name)].take(at).to_numpy() for name in classes])
    truth = np.array([classes.index(label) for label in rows["label"].to_pylist()])
    trained = _trained(request.run_id, request.silver_version, platform)
    return PhotosToJudge(rows.drop_columns(["split"]), truth, probabilities, trained)


def judge(test: PhotosToJudge, version: ModelVersion, champion: ModelVersion | None, platform: Platform, progress: Progress) -> Judgement:
    """Let the rule decide on the version.

    Raises:
        ModelRefused: the champion does not load, or does not answer every photo.
    """
    settings = platform.settings
    theirs = None if champion is None else _trained(champion.run_id, _silver_version(champion), platform)
    known = seen(test.rows, [photos for photos in (test.trained, theirs) if photos is not None], settings.split.near_duplicate_bits)
    if champion is not None:
        test = replace(test, fresh=_fresh(test, champion, platform))
        if theirs is None:
            known |= True if test.fresh is None else ~test.fresh  # what arrived later cannot be among them
    test = test.only(~known)
    lost = tuple(name for name in _lost(test.trained, theirs) if name in settings.labels.classes)
    circumstances = Circumstances(_looks(version, champion, platform), lost, int(known.sum()))
    left_out: dict[str, CarDamageError] = {}
    said = None
    if champion is not None and len(test.truth):
        test, said = _with_answers(test, champion, platform, progress, left_out)
    groups = groups_of(test.rows, settings.labels, settings.landing.folder)
    given = Answers(test.truth, test.candidate, said, test.fresh, groups)
    return Judgement(decide(given, settings.labels.classes, settings.promotion, circumstances), left_out)


def _with_answers(
    test: PhotosToJudge, champion: ModelVersion, platform: Platform, progress: Progress, left_out: dict[str, CarDamageError]
) -> tuple[PhotosToJudge, Labels]:
    """The photos that could be read, and the champion's predictions for them. The others go into `left_out`."""
    photos, settings = len(test.truth), platform.settings
    progress("judge", 0, photos, f"running champion {champion.version} on {photos} test photos")
    read = readable(platform.files, test.rows["path"].to_pylist(), test.rows["sha256"].to_pylist(), left_out)
    timeout, environment = settings.tracking.check_timeout + photos, settings.tracking.champion_environment
    with Scratch("champion") as folder:
        model = platform.registry.download(champion.uri, folder)
        given = answers(model, read, timeout, environment, lambda done: progress("judge", done, photos))
    test = test.only(np.array([path not in left_out for path in test.rows["path"].to_pylist()], bool))
    return test, _predicted(given, test.truth, settings.labels.classes)


def _predicted(given: Sequence[ModelAnswer], truth: Labels, classes: Sequence[str]) -> Labels:
    """Class numbers of the champion's answers. A label that is no class of the settings counts as wrong."""
    if len(given) != len(truth):
        raise ModelRefused(f"the champion answered {len(given)} of {len(truth)} test photos")
    wrong = (truth + 1) % len(classes)
    return np.array([classes.index(a.label) if a.label in classes else wrong[i] for i, a in enumerate(given)], np.int64)


def _trained(run_id: str, silver_version: int | None, platform: Platform) -> pa.Table | None:
    """The photos that a run was trained on. Runs of earlier versions kept no list: then silver as it was. None if that is lost, too: then
    only photos that arrived after the version was chosen can be judged on.
    """
    try:
        return read_trained(platform.tracking.fetch(run_id, TRAINED_FILE))
    except RegistryError:
        pass
    try:
        if silver_version is None:
            raise RegistryError("the version has no tag silver_version")
        rows, _ = platform.tables.read(platform.settings.tables.silver, COLUMNS, silver_version)
    except Terminal as error:
        _log.warning("it is unknown which photos run %s was trained on: %s", run_id, error)
        return None
    return trained_photos(rows)


def _silver_version(version: ModelVersion) -> int | None:
    text = version.tags.get(SILVER_TAG, "")
    return int(text) if text.isdecimal() else None


def _lost(mine: pa.Table | None, theirs: pa.Table | None) -> tuple[str, ...]:
    """The classes that the champion was trained on and the candidate was not."""
    if mine is None or theirs is None:
        return ()
    knows, known = (set(photos.filter(pc.equal(photos["split"], TRAIN))["label"].to_pylist()) for photos in (mine, theirs))
    return tuple(sorted(known - knows))


def _looks(version: ModelVersion, champion: ModelVersion | None, platform: Platform) -> int:
    """The candidates since the champion was chosen, this one included: versions that were registered since, and earlier ones that were
    judged again.
    """
    if champion is None:
        return version.version
    replaced = next((move.intention.replaces for move in platform.history.moves(DONE) if move.intention.version == champion.version), None)
    base = max(champion.version, replaced or 0)
    judged = (one for one in platform.registry.all_versions() if is_decided(one) and one.tags.get(JUDGED_AGAINST) == named(champion))
    others = [one for one in judged if one.version != version.version and not champion.version < one.version <= base]
    return max(1 + len(others), version.version - base)


def _fresh(test: PhotosToJudge, champion: ModelVersion, platform: Platform) -> npt.NDArray[np.bool_] | None:
    """Whether each photo, and all that look like it, arrived after the champion was chosen; None if that is unknown."""
    settings = platform.settings
    try:
        predicted = read_predictions(platform.tracking.fetch(champion.run_id, PREDICTIONS_FILE))
    except RegistryError:
        return None
    splits, _ = platform.tables.read(settings.tables.splits, ["sha256", "phash"])
    chosen_on = splits.filter(pc.is_in(splits["sha256"], value_set=predicted["sha256"]))
    return ~seen(test.rows, [chosen_on], settings.split.near_duplicate_bits)
