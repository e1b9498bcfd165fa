"""The stages as data: their requests, their reports, and how the next request follows from the reports before it.

A stage is a plain function `work(request, platform, progress) -> report`. Requests and reports are frozen, hold
only what JSON can hold, carry neither time nor secret, and are all that passes from stage to stage: so a stage
can run in this process or in a job on a cluster, and be asked again after a kill.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from car_damage import packages
from car_damage.errors import FileMissing, WeightsMissing
from car_damage.settings import Settings, Training

RECIPE = 5
"""Raise it when a change of decoding or training changes models: then models of an older recipe are trained again. A test notices such a
change of the code: see tests/recipe.py."""

_AS_BEFORE = MappingProxyType(
    {
        "int8": False,
        "resolution": "as_is",
        "views": ["mirrored"],
        "augmentation": "plain",
        "precision": "float32",
        "warm_start": "off",
        "fine_tune": "off",
        "components": 256,
        "search_minutes": 0,
    }
)
"""Settings of training that earlier releases did not have, with the value that trains as they did. These pairs are no part of the key."""

_ANSWERS = MappingProxyType({"coverage": 0.9, "group_thresholds": False})
"""Settings of answers that determine a model, with the value that is no part of the key."""

_OF_TRANSFER = ("backbone", "weights", "layers", "head", "views", "fine_tune", "components")
"""Settings of training that only the network transfer reads."""
_OF_FINE_TUNING = tuple(name for name in Training.model_fields if name.startswith("fine_tune_"))
"""Settings that only its fine-tuning reads."""
_OF_EPOCHS = ("augmentation", "precision", "warm_start")
"""Settings that every training in epochs reads: that of the network cnn, and fine-tuning."""

UNREADABLE_SHOWN = 20
"""At most so many paths of unreadable files stand in a report, which must stay small."""
LAST_VERSION = 2**31 - 1
"""The largest number of a model version that every registry's database can hold."""


@dataclass(frozen=True)
class ValidateRequest:
    """Look at every file that the bronze table has not seen."""

    flow_run: str
    """Id of the flow run; bronze keeps it as the ingest run."""
    allow_removals: bool = False
    """Believe the landing folder even when most of the known photos have vanished from it."""
    retire_other_folders: bool = False
    """Count photos of other landing folders than the present one as vanished."""


@dataclass(frozen=True)
class ValidateReport:
    """What this run found in the landing folder. Counts are files that this run saw first."""

    listed: int
    """Files in the landing folder."""
    accepted: int
    rejected: dict[str, int]
    """Reason -> files."""
    unreadable: tuple[str, ...]
    """Paths that could not be read. They have no verdict, and the next run tries them again. At most UNREADABLE_SHOWN."""
    unreadable_count: int
    replaced: int
    vanished: int
    bronze_version: int
    landing_fingerprint: str
    judged_again: int = 0
    """Known files that got a verdict again, because the limits, the decoder or their bytes have changed."""
    elsewhere: int = 0
    """Photos of other landing folders that are still used."""
    words: int = 0
    """What people said about photos, and this run saw first."""

    @property
    def new(self) -> int:
        """Files on which this run gave the first verdict."""
        return self.accepted + sum(self.rejected.values())


@dataclass(frozen=True)
class SilverRequest:
    """Bring the silver table up to this version of bronze."""

    flow_run: str
    bronze_version: int
    allow_removals: bool = False
    """Write silver even when most of its photos, or of those of a class, leave it."""


@dataclass(frozen=True)
class SilverReport:
    """What the silver table holds, and what this run changed in it. Rows are photos of one content each."""

    bronze_version: int
    """The bronze version that silver agrees with. Later than the request's, where this stage wrote verdicts into bronze."""
    silver_version: int
    fingerprint: str
    """sha256 over (sha256, label, split) of every row, in order. Two silver tables with the same fingerprint give the same training."""
    rows: int
    added: int
    changed: int
    removed: int
    files: int
    """Files in the landing folder that have a verdict."""
    rejected: dict[str, int]
    """Reason -> files of the landing folder that silver does not use, whichever run saw them first."""
    classes: dict[str, dict[str, int]]
    """Label -> split -> rows."""
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason -> paths of up to three of those files, latest first."""
    details: dict[str, str] = field(default_factory=dict)
    """Path of an example -> the details: the path of the file that it repeats, or the labels that it has."""
    rejected_now: dict[str, int] = field(default_factory=dict)
    """Reason -> those of `rejected` that this flow run saw first."""


@dataclass(frozen=True)
class TrainRequest:
    """Train on this version of silver, unless a finished run has the same training key."""

    flow_run: str
    silver_version: int
    silver_fingerprint: str
    training_key: str
    finished_run: str = ""
    """The finished run with this key that the stage live has found; empty where there is none."""
    train_again: bool = False
    """Train even when a finished run of another flow run has this key."""
    fallback_key: str = ""
    """See `training_keys`."""
    bronze_version: int = -1
    """The version of bronze that silver was made from; -1 where an earlier release asked."""


@dataclass(frozen=True)
class TrainReport:
    """A finished MLflow run and its logged model. Nothing in it depends on the champion."""

    training_key: str
    run_id: str
    model_uri: str
    metrics: dict[str, float]
    left_out: tuple[str, ...] = ()
    """Paths of photos that the training left out, because they have changed or cannot be read. At most UNREADABLE_SHOWN."""
    left_out_count: int = 0
    network: str = ""
    """The network that was trained; empty where an earlier release trained it."""


@dataclass(frozen=True)
class RegisterRequest:
    """Judge this run's model against the present champion, on this version of silver."""

    flow_run: str
    run_id: str
    model_uri: str
    silver_version: int
    dry_run: bool = False
    """Judge and register, but set no alias and leave the version undecided."""
    judge_again: bool = False
    """Decide again even when the version has a decision against the present champion."""
    training_key: str = ""
    """Of the run. Versions with the same key are the same model, trained twice."""
    network: str = ""
    """Of the run: see `TrainReport.network`."""


PROMOTE = "promote"
AWAIT = "await_approval"
KEEP = "keep"
DECISIONS = (PROMOTE, AWAIT, KEEP)


@dataclass(frozen=True)
class Score:
    """How well one model does on the test photos of a decision."""

    macro_f1: float
    recall: dict[str, float | None]
    """Class -> recall; None for a class without a test photo."""
    confusion: list[list[int]]
    """Photos by true class (row) and predicted class (column)."""
    cost: float | None
    """What the model's mistakes cost, a test photo on average: see `promotion.costs`. None in evidence from before there were costs."""
    interval: tuple[float, float] | None = None
    """95 % interval of the macro-F1. None in evidence from before there were intervals."""
    groups: dict[str, float] = field(default_factory=dict)
    """Group of photos -> macro-F1, for each group that is large enough. Empty in evidence from before there were groups."""


@dataclass(frozen=True)
class Comparison:
    """The candidate against the champion, on the same photos."""

    gain: float
    """Candidate's macro-F1 less the champion's."""
    confidence: float
    """1 less the chance that a model that is no better gains as much: see `promotion.certainty.confidence`."""
    interval: tuple[float, float]
    """2.5 and 97.5 percent quantiles of the gain over the resamples."""


@dataclass(frozen=True)
class Evidence:
    """The numbers behind a decision."""

    test_photos: int
    """Photos on which both were judged."""
    candidate: Score
    champion: Score | None = None
    """None: there was no champion."""
    comparison: Comparison | None = None
    """None: there was nothing to compare with."""
    excluded: int = 0
    """Test photos that were left out, because the candidate or the champion was trained on them, or on photos that resemble them."""
    looks: int = 1
    """Candidates that were judged since the champion was chosen, this one included. The confidence asked for rises with it."""
    fresh: int | None = None
    """Those of `test_photos` that arrived after the champion was chosen; None if that is unknown. All of them: both were judged on these
    photos alone."""
    groups: dict[str, int] = field(default_factory=dict)
    """Group of photos -> its test photos, for each group that has a score: see `car_damage.data.photos.groups`."""

    @property
    def worst_group(self) -> str | None:
        """The group on which the candidate has the lowest macro-F1; None where no group has a score."""
        return min(self.candidate.groups, key=self.candidate.groups.__getitem__, default=None)


def evidence_of(document: Any) -> Any:
    """Evidence in the present form. Earlier versions wrote one flat table, with candidate_ and champion_ before the names."""
    if not isinstance(document, Mapping) or "candidate_macro_f1" not in document:
        return document

    def score(model: str) -> dict[str, Any] | None:
        fields = {name: document.get(f"{model}_{name}") for name in ("macro_f1", "recall", "confusion", "cost")}
        return None if fields["macro_f1"] is None else fields | {"recall": fields["recall"] or {}, "confusion": fields["confusion"] or []}

    comparison = {name: document.get(key) for name, key in (("gain", "gain"), ("confidence", "confidence"), ("interval", "gain_interval"))}
    return {
        "test_photos": document.get("test_photos", 0),
        "candidate": score("candidate"),
        "champion": score("champion"),
        "comparison": None if None in comparison.values() else comparison,
    }


StoredEvidence = Annotated[Evidence, BeforeValidator(evidence_of)]
"""Evidence that this version or an earlier one wrote."""


@dataclass(frozen=True)
class RegisterReport:
    """A registered version with its decision."""

    version: int
    decision: str
    """One of DECISIONS."""
    reasons: tuple[str, ...]
    champion: int | None
    """The champion that the version was judged against."""
    decided_before: bool
    """An earlier run made the decision."""
    evidence: StoredEvidence | None
    """None where an earlier decision's evidence cannot be read any more."""


@dataclass(frozen=True)
class LiveRequest:
    """Find out whether anything is left to do for this training key."""

    training_key: str
    packages: dict[str, str] = field(default_factory=dict)
    """Package -> minor version, of the packages that would train. Empty: they are not known before the machine that trains has started,
    and any finished run with this key counts."""
    fallback_key: str = ""
    """See `training_keys`. A finished run with this key counts as one with the other key."""


@dataclass(frozen=True)
class LiveReport:
    """The decision, the intention and the served version at this moment."""

    run_id: str | None
    """The latest finished run with this training key whose model is there."""
    decided: int | None
    """The decided version of that run."""
    champion: int | None
    challenger: int | None
    served: int | None
    """The version that the endpoint answers with, when it is ready and nothing is pending."""
    underway: int = 0
    """Moves of the champion that have begun and not ended."""
    awaiting: bool = False
    """The decided version waits for a person's approval, and was judged against the present champion."""
    outdated: bool = False
    """The decision on the decided version compares with an earlier champion, so it is judged again."""

    @property
    def settled(self) -> bool:
        """Nothing is left to do: training, judging and updating the endpoint would change nothing."""
        decided = self.decided is not None and not self.outdated
        return decided and self.challenger is None and not self.underway and self.champion == self.served


@dataclass(frozen=True)
class ChooseRequest:
    """Find the version that a person wants live, and whether it may go live."""

    version: int | Literal["previous"]
    """A number, or `previous`: the champion before the present one, without those that were rolled back."""


@dataclass(frozen=True)
class ChooseReport:
    """A version that may take the champion's place."""

    version: int
    replaces: int | None
    """The champion of that moment. Equal to `version` when that one is live already."""
    kind: str
    """PROMOTION or ROLLBACK of `car_damage.moves`."""


@dataclass(frozen=True)
class EndpointRequest:
    """Take the challenger live. Without a challenger, make sure that the endpoint serves the champion.

    With a version, that one is made the challenger first, unless it is live already. A person asked for it.
    """

    flow_run: str
    by: str
    """Who or what requests it, for the champion's history."""
    version: int | None = None
    replaces: int | None = None
    """The champion that the version may replace. With another champion, nothing changes."""
    kind: str = ""
    """PROMOTION or ROLLBACK."""
    reason: str = ""
    """The person's own words."""


@dataclass(frozen=True)
class EndpointReport:
    """What the endpoint serves at the end of the stage, and why."""

    outcome: str
    """promoted | kept | repaired | unchanged | nothing to serve"""
    champion: int | None
    previous: int | None
    """The champion before, where it changed."""
    state: str
    """The endpoint's state: READY, NOT_READY, or ABSENT."""
    latency: float | None
    """Seconds that the endpoint took to answer the smoke photo."""
    message: str
    kind: str = ""
    """PROMOTION or ROLLBACK of `car_damage.moves`, where the champion changed."""
    reason: str = ""
    """Why it changed."""
    by_person: bool = False
    """A person decided it, and not the rule."""


@dataclass(frozen=True)
class ScoreRequest:
    """Score the photos of a folder or a table that this version has not scored."""

    flow_run: str
    source: str = ""
    """Folder, or catalog.schema.table; empty: `scoring.source`, or the landing folder."""
    version: int | Literal["champion"] = "champion"


@dataclass(frozen=True)
class ScoreReport:
    """The answers of a version to the photos of one folder or table. Counts are of this run, unless stated otherwise."""

    version: int
    source: str
    found: int
    """Photos of the source, including those that this version scored before."""
    scored: int
    labels: dict[str, int]
    """Label -> photos."""
    refused: int
    """Files that the model refuses as no photo. Each has a row with the reason, and is not scored again."""
    examples: dict[str, str]
    """Path -> reason, for up to ten of them."""
    unreadable: tuple[str, ...]
    """Paths that could not be read; the next run tries them again. At most UNREADABLE_SHOWN."""
    unreadable_count: int
    predictions_version: int
    """Version of the predictions table."""
    claims: int = 0
    """Claims of the source."""
    claims_for_review: int = 0
    """Those that a person must look at."""


@dataclass(frozen=True)
class MonitorRequest:
    """Look at the windows of the request log that have ended."""

    flow_run: str


@dataclass(frozen=True)
class MonitorReport:
    """What the latest windows say of the champion."""

    said: str
    """The latest window in one sentence."""
    version: int | None = None
    """None: no version is live."""
    run_id: str = ""
    """The version's MLflow run."""
    windows: int = 0
    """Windows that this run looked at first, of any version."""
    begins: str = ""
    """Of the latest window, in ISO 8601. Empty: there is none."""
    ends: str = ""
    alarm: tuple[str, ...] = ()
    """What was unusual in enough of the latest windows."""
    how_much: str = ""
    """The same, each with its size."""
    latest: tuple[dict[str, Any], ...] = ()
    """The latest windows, oldest first: some columns of the table of monitoring."""
    to_learn: int = 0
    """Photos with labels that the version has not learned from."""
    unlabelled: int = 0
    """Different photos of the latest windows without a label."""
    coverage: float | None = None
    """The coverage that the version was given when it became worse, which its endpoint has if the settings say so; None: none ever."""


@dataclass(frozen=True)
class TidyRequest:
    """Remove what no run, rollback or audit needs any more."""

    training_key: str = ""
    """Of the flow run: the training with this key stays, so that the next run finds it. Empty: the latest training stays."""
    dry_run: bool = False
    """Tell what can go, and remove nothing."""
    fallback_key: str = ""
    """See `training_keys`. The training with this key stays, too."""


@dataclass(frozen=True)
class Leftover:
    """Something that was removed, or can be."""

    kind: str
    """What it is, for a person: table, training, ..."""
    name: str
    items: int
    """Files, or what the kind consists of."""
    bytes: int | None
    """None where the service that keeps it does not tell, or frees them later by rules of its own."""


@dataclass(frozen=True)
class TidyReport:
    """What was removed, or with a dry run what can be."""

    leftovers: tuple[Leftover, ...]

    @property
    def bytes(self) -> int:
        """Of all of it, as far as known."""
        return sum(leftover.bytes or 0 for leftover in self.leftovers)


@dataclass(frozen=True)
class Trace:
    """Where a photo was found."""

    place: str
    """A table, a folder, a training, ..."""
    what: str
    """What is there of it."""
    items: int = 1
    """Rows or files."""
    stays: str = ""
    """Why it cannot be removed, and what a person does; empty if it can."""
    run: str = ""
    """Id of the training; empty where it is none."""
    version: int | None = None
    """The version of the model that was trained with it; None where the trace is no model."""
    again: bool = False
    """Whether each call looks again if it is still so, because a person can end it."""


@dataclass(frozen=True)
class ForgetRequest:
    """Remove everything that is known of a photo, and never take it up again."""

    flow_run: str
    mark: str
    """Of the photo: see `car_damage.data.forgotten`. So no request holds its hash."""
    by: str = ""
    """Who wants it."""
    note_only: bool = False
    """Only note the mark, so that whatever begins later knows it. What is in progress may end before the rest is done."""
    elsewhere: tuple[Trace, ...] = ()
    """What stays in places that only the caller can reach."""


@dataclass(frozen=True)
class ForgetReport:
    """What was found of a photo, by this call and those before it. All of it is removed, but for what has a reason to stay."""

    mark: str
    by: str
    noted: str
    """When the photo was first to be forgotten: ISO 8601, UTC."""
    found: tuple[Trace, ...]
    files: tuple[str, ...]
    """Paths of the landing folder, and of other folders that are not ours, where the photo still lies."""
    underway: tuple[str, ...] = ()
    """Trainings in progress, which may write it again: forget it once more when they have ended."""
    paths: tuple[str, ...] = ()
    """Where the tables said, before this call, that the photo lay. Not in the certificate: it is to be forgotten, too."""

    @property
    def versions(self) -> tuple[int, ...]:
        """Versions of the model that were trained with it."""
        return tuple(sorted({trace.version for trace in self.found if trace.version is not None}))

    @property
    def runs(self) -> frozenset[str]:
        """Ids of the trainings with files that showed or named it."""
        return frozenset(trace.run for trace in self.found if trace.run)


def _read(path: str) -> bytes:
    """A file of this machine."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileMissing(f"{path} is not there") from error


def silver_request(request: ValidateRequest, report: ValidateReport) -> SilverRequest:
    """Silver is made from the bronze version that validation has written. What a person has said of removals holds for both tables."""
    return SilverRequest(request.flow_run, report.bronze_version, request.allow_removals)


def live_request(report: SilverReport, settings: Settings, read: Callable[[str], bytes] = _read) -> LiveRequest:
    """The training key follows from silver and the settings, so it is known before anything is trained. See `training_key` for `read`."""
    here = settings.databricks.stages == "here"
    key, fallback = training_keys(report.fingerprint, settings, read)
    return LiveRequest(key, packages.that_train_here() if here else {}, fallback)


def train_request(flow_run: str, silver: SilverReport, live: LiveReport, asked: LiveRequest, train_again: bool = False) -> TrainRequest:
    """Training reads the silver version of this run, and no later one."""
    return TrainRequest(
        flow_run,
        silver.silver_version,
        silver.fingerprint,
        asked.training_key,
        live.run_id or "",
        train_again,
        asked.fallback_key,
        silver.bronze_version,
    )


def register_request(
    flow_run: str, silver: SilverReport | TrainRequest, train: TrainReport, dry_run: bool = False, judge_again: bool = False
) -> RegisterRequest:
    """The silver version comes from the train request: the train report may be a cached one, of an earlier version."""
    return RegisterRequest(
        flow_run, train.run_id, train.model_uri, silver.silver_version, dry_run, judge_again, train.training_key, train.network
    )


def promote_request(flow_run: str, by: str, chosen: ChooseReport, reason: str) -> EndpointRequest:
    """Take the chosen version live, if the champion is still the one that was live at the choice."""
    return EndpointRequest(flow_run, by, chosen.version, chosen.replaces, chosen.kind, reason)


def training_keys(silver_fingerprint: str, settings: Settings, read: Callable[[str], bytes] = _read) -> tuple[str, str]:
    """The key of the training that is due, and the key with which it ends where the network auto becomes cnn. See `training_key`.

    Only the machine that trains knows whether it can download weights, so both keys are known before, and that machine settles for one.
    Where a file of the backbone is not there, both are the key of cnn. With another network than auto the second one is empty.
    """
    training = settings.training
    if training.network != "auto":
        return training_key(silver_fingerprint, settings, read), ""
    of_cnn, of_transfer = (
        settings.model_copy(update={"training": training.model_copy(update={"network": network})}) for network in ("cnn", "transfer")
    )
    fallback = training_key(silver_fingerprint, of_cnn, read)
    try:
        return training_key(silver_fingerprint, of_transfer, read), fallback
    except WeightsMissing:
        return fallback, fallback


def training_key(silver_fingerprint: str, settings: Settings, read: Callable[[str], bytes] = _read) -> str:
    """A hash of everything that determines a trained model: where it is kept, the data, the settings of training, and the recipe.

    Two runs with the same key and the same packages (`packages.TRAINING`) would train the same model, so the second one is spared. The
    champion is no part of it, also with `training.warm_start`: otherwise each promotion would change the key, and so every night that
    took a model live would be followed by another training on the same photos. With a warm start, a key stands for one training from
    whichever champion was live then, and the run's tag names it. The same weights need the same start, too. A training that was killed
    starts from the champion of the moment when it is repeated.

    Args:
        silver_fingerprint: see `SilverReport.fingerprint`.
        settings: the settings.
        read: the bytes of a file that the settings name: `Files.read`, where it may be on a volume.

    Raises:
        WeightsMissing: there is no such file.
        Unavailable: it cannot be read.
    """
    return digest(
        {
            "tracking": settings.tracking_uri,
            "registry": settings.registry_uri,
            "model": settings.tracking.model,
            "experiment": settings.tracking.experiment,
            "silver": silver_fingerprint,
            "classes": settings.labels.classes,
            "limits": asdict(settings.images.limits()),
            "training": _determining(settings.training, read),
            **_answering(settings),
            "recipe": RECIPE,
        }
    )


def _determining(training: Training, read: Callable[[str], bytes]) -> dict[str, Any]:
    """The settings of training that determine a model of its network, with the content of a file in place of its path."""
    settings = training.model_dump(mode="json")
    unread = _unread(training)
    found = {name: value for name, value in settings.items() if (name, value) not in _AS_BEFORE.items() and name not in unread}
    contents = {name: named_file(name, path, read) for name, path in training.files.items()}
    return found | {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def _unread(training: Training) -> tuple[str, ...]:
    """The settings of training that its network does not read."""
    if training.network == "cnn":
        return _OF_TRANSFER + _OF_FINE_TUNING
    return _OF_FINE_TUNING + _OF_EPOCHS if training.fine_tune == "off" else ()


def _answering(settings: Settings) -> dict[str, Any]:
    """The settings that determine what the model does to its network's probabilities, but for those of `_ANSWERS`."""
    answers = settings.answers
    found: dict[str, Any] = {name: value for name, usual in _ANSWERS.items() if (value := getattr(answers, name)) != usual}
    if answers.coverage == "cheapest":
        found |= {"review_cost": answers.review_cost, "costs": settings.promotion.costs}
    return {"answers": found} if found else {}


def named_file(setting: str, path: str, read: Callable[[str], bytes]) -> bytes:
    """The file that a setting of training names.

    Raises:
        WeightsMissing: there is no such file.
        Unavailable: it cannot be read.
    """
    try:
        return read(path)
    except FileMissing as error:
        raise WeightsMissing(f"training.{setting} names {path}, and there is no such file: copy it there, or name another one") from error


def digest(value: Any) -> str:
    """sha256, in hexadecimal, of a JSON value or a dataclass, the same in every process."""
    plain = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
