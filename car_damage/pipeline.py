"""The stages as data: what each is asked, what each answers, and how an answer becomes the next request.

A stage is a plain function `work(request, platform, progress) -> report`. Requests and reports are frozen, hold
only what JSON can hold, carry neither time nor secret, and are all that passes from stage to stage: so a stage
can run in this process or in a job on a cluster, and be asked again after a kill.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from car_damage.errors import CarDamageError, UnexpectedError

if TYPE_CHECKING:
    from car_damage.ports import Platform
    from car_damage.settings import Settings

RECIPE = 2
"""Raised whenever the decoding or the training of photos changes: models of an older recipe are trained again."""

UNREADABLE_SHOWN = 20
"""Paths of files that could not be read in a report, which must stay small."""
LAST_VERSION = 2**31 - 1
"""The largest number of a model version that every registry's database can hold."""


class Progress(Protocol):
    """Tells a person how far a stage is."""

    def __call__(self, step: str, done: int, total: int, message: str = "") -> None:
        """`done` of `total` units of `step` are done; `message` says how it goes (a loss, a count)."""


def silent(step: str, done: int, total: int, message: str = "") -> None:
    """The progress that nobody watches."""


Req = TypeVar("Req")
Rep = TypeVar("Rep")


@dataclass(frozen=True)
class Stage(Generic[Req, Rep]):
    """One stage: its name, its two types, and its work."""

    name: str
    request: type[Req]
    report: type[Rep]
    work: Callable[[Req, "Platform", Progress], Rep]
    control_plane: bool = False
    """Talks to services only: always runs where the flow runs, never on a cluster."""

    def run(self, request: Req, platform: "Platform", progress: Progress) -> Rep:
        """Do the work.

        Raises:
            CarDamageError: what the stage raises, with its name in front, because a person reads this message first; and
                UnexpectedError for anything that is no error of ours.
        """
        try:
            return self.work(request, platform, progress)
        except CarDamageError as error:
            raise type(error)(f"stage {self.name}: {error}") from error
        except Exception as error:
            raise UnexpectedError(
                f"stage {self.name}: {type(error).__name__}: {error}; this was not foreseen: the log has where it comes from. "
                "Start a new run, which goes on where this one ended, and report it if it comes again"
            ) from error


@dataclass(frozen=True)
class ValidateRequest:
    """Look at every file that the bronze table has not seen."""

    flow_run: str
    """Id of the flow run, noted in bronze as the ingest run."""
    allow_removals: bool = False
    """Believe the landing folder even when most of the known photos have vanished from it."""


@dataclass(frozen=True)
class ValidateReport:
    """What landed since the last time. Counts are files, and only those of this run."""

    listed: int
    """Files in the landing folder."""
    accepted: int
    rejected: dict[str, int]
    """Reason -> files."""
    unreadable: tuple[str, ...]
    """Paths that could not be read this time; no verdict, taken up again by the next run. At most UNREADABLE_SHOWN."""
    unreadable_count: int
    replaced: int
    vanished: int
    bronze_version: int
    landing_fingerprint: str

    @property
    def new(self) -> int:
        """Files on which this run gave a verdict."""
        return self.accepted + sum(self.rejected.values())


@dataclass(frozen=True)
class SilverRequest:
    """Bring the silver table up to this version of bronze."""

    flow_run: str
    bronze_version: int


@dataclass(frozen=True)
class SilverReport:
    """What the silver table holds, and what this run changed in it. Rows are photos of one content each."""

    bronze_version: int
    """Of the bronze table that silver agrees with; later than the request's where silver's verdicts were noted in it."""
    silver_version: int
    fingerprint: str
    """sha256 over (sha256, label, split) of every row, in order: equal where training would read the same."""
    rows: int
    added: int
    changed: int
    removed: int
    files: int
    """Files in the landing folder with a verdict."""
    rejected: dict[str, int]
    """Reason -> files of the landing folder that silver does not use, of all runs."""
    classes: dict[str, dict[str, int]]
    """Label -> split -> rows."""
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason -> paths of up to three of those files, latest first."""
    details: dict[str, str] = field(default_factory=dict)
    """Path of an example -> what exactly is the matter: the path of the file that it repeats, the labels that it has."""
    rejected_now: dict[str, int] = field(default_factory=dict)
    """Reason -> those of `rejected` that this flow run saw first."""


@dataclass(frozen=True)
class TrainRequest:
    """Train on this version of silver, unless a run with the same training key has done so."""

    flow_run: str
    silver_version: int
    silver_fingerprint: str
    training_key: str
    finished_run: str = ""
    """The finished run with this key, where the look at what is live found one."""
    train_again: bool = False
    """Train even when a finished run of another flow run has this key."""


@dataclass(frozen=True)
class TrainReport:
    """A finished MLflow run and its logged model. Nothing in it depends on the champion."""

    training_key: str
    run_id: str
    model_uri: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class RegisterRequest:
    """Judge this run's model against the champion of this moment, on this version of silver."""

    flow_run: str
    run_id: str
    model_uri: str
    silver_version: int
    dry_run: bool = False
    """Judge and register, but set no alias and leave the version undecided."""
    judge_again: bool = False
    """Decide again even when the version has a decision."""
    training_key: str = ""
    """Of the run: versions with the same one are the same model trained twice."""


@dataclass(frozen=True)
class RegisterReport:
    """A registered version with its decision."""

    version: int
    decision: str
    """One of `car_damage.promotion.rule.DECISIONS`."""
    reasons: tuple[str, ...]
    champion: int | None
    """The version that it was judged against."""
    decided_before: bool
    """The decision was found, not made."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """Numbers behind the decision: see `car_damage.promotion.rule.Evidence`."""


@dataclass(frozen=True)
class LiveRequest:
    """Look at what is live, to see whether anything is left to do for this training key."""

    training_key: str


@dataclass(frozen=True)
class LiveReport:
    """What is decided, intended and served at this moment."""

    run_id: str | None
    """The latest finished run with this training key whose model is there."""
    decided: int | None
    """The decided version of that run."""
    champion: int | None
    challenger: int | None
    served: int | None
    """The version that the endpoint answers with, when it is ready and nothing is pending."""
    underway: int = 0
    """Moves of the champion that were begun and not ended."""
    awaiting: bool = False
    """The decided version waits for a person's approval, and the champion is still the one that it was judged against."""

    @property
    def settled(self) -> bool:
        """Nothing is left to do: training, judging and updating the endpoint would change nothing."""
        return self.decided is not None and self.challenger is None and not self.underway and self.champion == self.served


@dataclass(frozen=True)
class ChooseRequest:
    """Find the version that a person asks for, and whether it may go live."""

    version: int | Literal["previous"]
    """A number, or `previous`: the champion before the present one."""


@dataclass(frozen=True)
class ChooseReport:
    """A version that may take the champion's place."""

    version: int
    replaces: int | None
    """The champion of that moment. The same as `version`: it is live already."""
    kind: str
    """PROMOTION or ROLLBACK of `car_damage.moves`."""


@dataclass(frozen=True)
class EndpointRequest:
    """Take the challenger live; without one, see that the endpoint serves the champion.

    With a version, that one is made the challenger first, unless it is live already. A person asked for it.
    """

    flow_run: str
    by: str
    """Who or what asks, for the champion's history."""
    version: int | None = None
    replaces: int | None = None
    """The champion that the version is to replace, and no other."""
    kind: str = ""
    """PROMOTION or ROLLBACK."""
    reason: str = ""
    """The person's own words."""


@dataclass(frozen=True)
class EndpointReport:
    """What the endpoint serves now, and how it came to that."""

    outcome: str
    """promoted | kept | repaired | unchanged | nothing to serve"""
    champion: int | None
    previous: int | None
    """The champion before, where it changed."""
    state: str
    """The endpoint's own word for its state: READY, NOT_READY, or ABSENT."""
    latency: float | None
    """Seconds that the endpoint took to answer the smoke photo."""
    message: str
    kind: str = ""
    """PROMOTION or ROLLBACK of `car_damage.moves`, where the champion changed."""
    reason: str = ""
    """Why it changed."""
    by_person: bool = False
    """A person decided for it, and not the rule."""


@dataclass(frozen=True)
class ScoreRequest:
    """Ask a version about the photos of a folder or a table that it has not been asked about."""

    flow_run: str
    source: str = ""
    """Folder, or catalog.schema.table; empty: `scoring.source`, or the landing folder."""
    version: int | Literal["champion"] = "champion"


@dataclass(frozen=True)
class ScoreReport:
    """What a version said of the photos of one folder or table. Counts are of this run, where nothing else is said."""

    version: int
    source: str
    found: int
    """Photos of the source, those that this version had been asked about before among them."""
    scored: int
    labels: dict[str, int]
    """Label -> photos."""
    refused: int
    """Files that the model takes for no photo; they have a row that says why, and are not asked about again."""
    examples: dict[str, str]
    """Path -> why, of up to ten of these."""
    unreadable: tuple[str, ...]
    """Paths that could not be read; the next run tries them again. At most UNREADABLE_SHOWN."""
    unreadable_count: int
    predictions_version: int
    """Of the table of predictions."""


def silver_request(flow_run: str, report: ValidateReport) -> SilverRequest:
    """Silver is made from the bronze version that validation left behind."""
    return SilverRequest(flow_run, report.bronze_version)


def live_request(report: SilverReport, settings: "Settings") -> LiveRequest:
    """The training key follows from the silver table alone, so what is left to do is known before anything is trained."""
    return LiveRequest(training_key(report.fingerprint, settings))


def train_request(flow_run: str, silver: SilverReport, live: LiveReport, asked: LiveRequest, train_again: bool = False) -> TrainRequest:
    """Training reads the silver version that was just written, and no later one."""
    return TrainRequest(flow_run, silver.silver_version, silver.fingerprint, asked.training_key, live.run_id or "", train_again)


def register_request(
    flow_run: str, silver: SilverReport | TrainRequest, train: TrainReport, dry_run: bool = False, judge_again: bool = False
) -> RegisterRequest:
    """The silver version is the one that training was asked for: a train report may be a cached one of an earlier version."""
    return RegisterRequest(flow_run, train.run_id, train.model_uri, silver.silver_version, dry_run, judge_again, train.training_key)


def promote_request(flow_run: str, by: str, chosen: ChooseReport, reason: str) -> EndpointRequest:
    """The version that was chosen, in place of the champion that was live at that moment and no other."""
    return EndpointRequest(flow_run, by, chosen.version, chosen.replaces, chosen.kind, reason)


def following(stage: str, request: Any, report: Any, options: Mapping[str, bool]) -> Any:
    """The request of the stage that a job goes on with, as the flow makes it.

    Args:
        stage: the one that has ended, validate or train.
        request: what it was asked.
        report: what it answered.
        options: the flow run's parameters.
    """
    if stage == "validate":
        return silver_request(request.flow_run, report)
    return register_request(request.flow_run, request, report, options.get("dry_run", False), options.get("judge_again", False))


def training_key(silver_fingerprint: str, settings: "Settings") -> str:
    """What a trained model follows from: where it is kept, the data, the settings of training, and the recipe.

    Two runs with the same key would train the same model, so the second one is spared. The champion is no part of it.
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
            "training": settings.training.model_dump(mode="json"),
            "recipe": RECIPE,
        }
    )


def digest(value: Any) -> str:
    """sha256, in hexadecimal, of a JSON value or a dataclass, the same in every process."""
    plain = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
