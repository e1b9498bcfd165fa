"""The ports: the interfaces through which stages reach the outside world, and the data that passes through them.

Every lasting effect of a stage goes through a port. So a stage knows no platform, and a test can wrap a port
and stop the process before and after each call.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from car_damage.moves import Intention, Move
from car_damage.settings import Settings, Training

if TYPE_CHECKING:
    import pyarrow as pa

    from car_damage.photo.preparation import Preparation

CHAMPION = "champion"
"""The alias of the live version."""
CHALLENGER = "challenger"
"""The alias of the version that is intended to go live next."""
KEY_TAG = "training_key"
"""The tag of runs and versions that identifies a training: the same data, settings and code have the same key, on each machine."""
PACKAGES_TAG = "packages"
"""Tag of a training run: the packages that have trained it, see `car_damage.packages.that_train_here_exactly`."""
BRONZE_TAG = "bronze_version"
SILVER_TAG = "silver_version"
"""The tag of runs and versions with the version of the silver table that they use."""
FEATURES_TAG = "features"
"""Tag of a training run of the network transfer: the digest of its rows in the table of features."""
NETWORK_TAG = "network"
"""Tag of a training run: the network that it trains."""
WARM_START_TAG = "warm_start"
"""Tag of a training run that was asked to start from the champion: its version and run, or why it started without it."""
FLOW_RUN_TAG = "flow_run"
"""The tag of runs, versions and moves with the flow run that made them."""
RAISED_COVERAGE = "MODEL_COVERAGE"
"""The environment variable of a served entity with the coverage of its answers: see `car_damage.model.served.served_model`."""
TAG_LIMIT = 1000
"""Characters of a tag's value that every store accepts; Unity Catalog's limit."""


@dataclass(frozen=True)
class File:
    """One file of a listing."""

    path: str
    size: int
    """Bytes."""
    modified: datetime
    """UTC, whole milliseconds: the precision that all engines share."""


LEFT = timedelta(hours=1)
"""Age of a draft whose writer was killed: no file takes so long to write."""


class Files(Protocol):
    """Files by path: a folder of this machine, or a volume. Only `replace` overwrites, and only `remove` removes."""

    def list(self, folder: str) -> Iterator[File]:
        """Every file below `folder`, in any order. Files and folders whose name starts with `_` or `.` are skipped.

        Raises SettingsError if the folder does not exist. Unavailable: the folder, or one below it, cannot be listed. Discard what was
        yielded before.
        """

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises FileMissing if it does not exist, and Unavailable if it cannot be read."""

    def write_once(self, path: str, data: bytes) -> None:
        """Create a complete file. Raises FileExistsError if the file exists, and Unavailable if it cannot be written."""

    def replace(self, path: str, data: bytes) -> None:
        """Create a file, or replace its whole content. Raises Unavailable.

        In a folder of this machine a reader finds the content of before or the new one, also after a kill. On a mounted volume it may
        find half of it.
        """

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all its files. Does nothing if it does not exist. Raises Unavailable."""

    def drafts(self, folder: str) -> Iterator[File]:
        """What calls of `write_once` and `replace` write at this moment below `folder`, or have left there when they were killed.

        `list` skips these files. There is none if the folder does not exist. Raises Unavailable.
        """


@dataclass(frozen=True)
class Loss:
    """How many of the known photos of one class, or of all classes, are gone."""

    label: str | None
    """None: over all classes."""
    known: int
    gone: int


@dataclass(frozen=True)
class LandingDiff:
    """The difference between the landing folder and the bronze table."""

    new: "pa.Table"
    """path, size, modified, known: files that need a verdict. `known`: bronze has a present row with these three values, whose verdict
    was given under other limits or by another decoder."""
    gone: "pa.Table"
    """path, size, modified, status: present rows of bronze whose file no longer exists; status is
    `replaced` if another version of the path is listed, else `vanished`. Also rows of other landing folders that are retired."""
    listed: int
    """Files in the landing folder."""
    losses: tuple[Loss, ...]
    """Present rows of bronze that belong to the landing folder, and those of them that have vanished: over all, then by class."""
    elsewhere: int
    """Present rows of other landing folders, which stay."""
    fingerprint: str
    """See `car_damage.data.photos.ledger.fingerprint`."""
    bronze_version: int
    """-1 if the table does not exist."""
    words: tuple[str, ...] = ()
    """Paths of the words in the corrections folder: see `car_damage.data.people.reviews`."""
    corrections_away: int = 0
    """Known photos of the corrections folder, where it lists no photo at all; otherwise 0."""


class FileProcessor(Protocol):
    """Processes one file. Pure, and picklable, because a cluster runs it."""

    def __call__(self, path: str, data: bytes) -> Mapping[str, Any]:
        """The row of a file, computed from its path and bytes."""

    def fatal(self, path: str, data: bytes, why: str) -> Mapping[str, Any]:
        """The row of a file whose bytes ended the process that decoded them. Must not decode them again."""


@dataclass(frozen=True)
class Space:
    """Files that are removed, or can be."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Where:
    """Which rows of a table to read: those whose column is within both bounds, inclusive, or is one of some texts."""

    column: str
    least: datetime | None = None
    most: datetime | None = None
    among: Sequence[str] | None = None


class Tables(Protocol):
    """Delta tables by three-level name."""

    def compare_landing(
        self, landing: str, bronze: str, judged_under: str, corrections: str | None = None, *, retire_others: bool = False
    ) -> LandingDiff:
        """Compare complete listings of the landing folder and of the corrections folder with the table.

        Args:
            landing: the folder.
            bronze: the table.
            judged_under: see `car_damage.data.photos.ledger.judged_under`.
            corrections: the corrections folder, which need not exist; None: it is not looked at.
            retire_others: count the rows of other landing folders as gone.

        Raises Unavailable if any part of a folder cannot be listed.
        """

    def each(self, files: "pa.Table", work: FileProcessor, schema: "pa.Schema", tick: Callable[[int], None]) -> "pa.Table":
        """Read each file once and process its bytes, with bounded memory.

        Args:
            files: path (string) and size (int64, bytes), one row per file.
            work: returns one row per file.
            schema: the schema of these rows.
            tick: called from time to time with the number of files done.

        Raises:
            Terminal: the work is too large to travel to where the engine works, or fails there.

        Returns:
            `schema` with two columns in front: path, and unreadable (string: the reason why the file could not be read, and
            then the rest of the row is null; null for a file that was read). One row per file, in any order.
        """

    def answers(
        self, files: "pa.Table", model: Path, timeout: float, environment: Literal["this", "uv", "fitting"], chunk: int
    ) -> "Iterator[pa.Table]":
        """Read each file once and ask a model about it, with bounded memory, where the engine does its work.

        Args:
            files: path (string) and size (int64, bytes; null: unknown), one row per file.
            model: the folder of a saved MLflow model, on this machine.
            timeout: seconds that the model may take for its first answers, and again for each further one.
            environment: see `car_damage.model.served.process.Environment`.
            chunk: files in one table. An engine that works on many files at the same time may have more.

        Yields:
            The columns `car_damage.data.answers.predictions.ANSWER` behind path and unreadable, which are as `each` has them. All tables
            together have one row per file, in any order.

        Raises:
            ModelRefused: the model's process ended, or gave no answer in time. What was yielded before stays right.
        """

    def read(
        self, table: str, columns: Sequence[str], version: int | None = None, *, optional: Sequence[str] = (), where: Where | None = None
    ) -> "tuple[pa.Table, int]":
        """The columns at a version (None: the latest), and that version. A table that does not exist has no rows and version -1. Those
        of the columns that are optional are null in each row where the table lacks them. With `where`, only those rows.

        `table` may also be the absolute path of a table's folder. Such a table can only be read.
        """

    def merge(
        self,
        table: str,
        rows: "pa.Table",
        key: Sequence[str],
        *,
        remove: "pa.Table | None" = None,
        base: int | None = None,
        once: Sequence[str] = (),
    ) -> int:
        """Update the rows whose key exists, insert the others, delete the keys in `remove`; all in one commit.

        Args:
            table: catalog.schema.table. A table that does not exist is created.
            rows: all columns of the table. If every key exists already, columns other than the key may be omitted. Columns that the
                table lacks are added to it first, in a commit of their own.
            key: the columns that identify a row.
            remove: the key columns of the rows to delete.
            base: commit only if the table is still at this version (-1: it does not exist). None: retry after a conflict. Spark
                notices a concurrent writer only after the commit: then the rows are written, and the conflict is still raised.
            once: columns that are written when a row is inserted, and never updated.

        Returns:
            The table's version afterwards; unchanged if there was nothing to do.

        Raises:
            CommitConflict: another writer committed first: with `base` once, otherwise in every attempt.
            SettingsError: `table` is a path.
            ValueError: two rows, or two keys to delete, have the same key.
        """

    def uri(self, table: str) -> str:
        """The table's address for a person: a path, or its name in the catalog."""

    def purge(self, table: str, is_sought: Callable[[str], bool]) -> str:
        """Remove all versions but the latest, whatever needs them, so that rows which were removed are in no file any more.

        No other process may write to the table meanwhile.

        Args:
            table: catalog.schema.table. One that does not exist has nothing to remove.
            is_sought: whether a text of 64 hexadecimal digits is the photo's that was removed. A file that no commit names, because its
                writer was killed, goes at once if it has the photo in the column sha256; others wait for `tidy`. What a writer has begun
                and nobody can read goes if it is older than a day: until then it may be that of a live writer.

        Returns:
            What stays for a time, and until when; empty if nothing does.
        """

    def tidy(self, table: str, keep_days: int, needed: Collection[int], *, dry_run: bool = False) -> "Space | None":
        """Merge the table's small files, and remove files that only old versions are made of.

        The rows, the latest version and the version before this call stay. So do versions that are younger than `keep_days`, and the
        needed ones of any age, as far as they are still there.

        Args:
            table: catalog.schema.table.
            keep_days: days for which a version that was replaced can still be read.
            needed: versions that must stay readable.
            dry_run: change nothing.

        Returns:
            What was removed, or would be. None if the catalog keeps its tables tidy itself.
        """


@dataclass(frozen=True)
class RowCounts:
    """How many rows a table has."""

    exists: bool
    version: int | None = None
    """None: the table does not exist, or its version is not known here."""
    rows: Mapping[tuple[Any, ...], int] | None = field(default_factory=dict)
    """Values of columns -> rows that have them. None: the rows cannot be looked at from here."""


class Census(Protocol):
    """Counts the rows of tables. It works also where nothing is installed that could open a table."""

    def count(self, table: str, by: Sequence[str], folder: str | None = None) -> RowCounts:
        """The rows by the values of these columns, of text.

        With a folder the key has one value more: whether the row's `path` is below the folder.

        Raises Unavailable, RequestRefused, or what `Tables.read` raises.
        """


@dataclass(frozen=True)
class TrainedRun:
    """A finished MLflow run whose model exists."""

    run_id: str
    model_uri: str
    metrics: dict[str, float]
    flow_run: str = ""
    """The flow run that trained it."""
    network: str = ""
    """The network; empty where an earlier release trained it."""


@dataclass(frozen=True)
class RunSummary:
    """One training run, finished or not."""

    run_id: str
    name: str
    status: str
    """MLflow's status: RUNNING, FINISHED, FAILED, KILLED."""
    started: datetime
    metrics: dict[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)
    ended: datetime | None = None


@dataclass(frozen=True)
class Dataset:
    """The silver table, as one training used it."""

    table: str
    """Where it is: a folder, or its name in the catalog."""
    version: int
    fingerprint: str
    schema: "pa.Schema"
    photos: Mapping[str, int]
    """Split -> its photos."""


@dataclass(frozen=True)
class RunContents:
    """Everything that a training run logs to MLflow."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: Mapping[str, Sequence[float]]
    """Metric -> one value per epoch."""
    folder: Path
    """A folder whose files are all logged: the .keras file, plots, figures, predictions."""
    keras_file: Path
    """The network: input (n, 224, 224, 3) uint8, output (n, classes) softmax."""
    onnx_file: Path | None
    """The same network in the format ONNX, with which the model answers. None: the model answers by Keras."""
    answering_file: Path | None
    """What the model does to the network's probabilities: see `car_damage.model.answering`. None: nothing."""
    example: bytes
    """A photo's bytes, the model's input example."""
    dataset: Dataset
    preparation: "Preparation"
    """Of every photo that the network was trained with, and of those that the model will answer."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the run, beside those that it has started with."""


@dataclass(frozen=True)
class Trial:
    """Settings of a training that a search has tried."""

    changes: Mapping[str, Any]
    """Setting of training -> value, as JSON has it."""
    loss: float
    """Mean log loss of photos that the network did not learn from; infinite if it is no number."""
    seconds: float

    def of(self, training: Training) -> Training:
        """The settings of this trial."""
        return Training.model_validate({**training.model_dump(), **self.changes})


class Tracking(Protocol):
    """MLflow runs."""

    def run_for(self, training_key: str, packages: Mapping[str, str]) -> TrainedRun | None:
        """The latest finished run with this key whose model is still readable, or None.

        Args:
            training_key: see `pipeline.training_key`.
            packages: package -> minor version. Runs that trained with another minor version of one do not count.
        """

    def recent(self, limit: int | None = None) -> list[RunSummary]:
        """The latest training runs, newest first; all of them without a limit."""

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """Start a run; returns its id. Ends runs with the same training_key that are still RUNNING after a kill."""

    def log(self, run_id: str, contents: RunContents) -> str:
        """Log the contents of a run and its model; returns the model's URI (`models:/m-...`)."""

    def trials(self, training_key: str, run_id: str) -> list[Trial]:
        """The trials of the search for this training, in their order, also those that did not end. Those of earlier runs become children
        of this run.
        """

    def begin_trial(self, training_key: str, run_id: str, number: int, trial: Trial) -> str:
        """Write a trial as a child of this run, before it begins, with what it counts if it never ends. Returns the child's id."""

    def end_trial(self, child: str, number: int, trial: Trial) -> None:
        """Write what came of it."""

    def finish(self, run_id: str, model_uri: str, training_key: str | None = None) -> None:
        """Mark the run as finished. `run_for` finds only finished runs. A key takes the place of the one that the run began with."""

    def fail(self, run_id: str, message: str) -> None:
        """Mark the run as failed."""

    def abandon(self, flow_run: str) -> None:
        """Mark the training runs of a cancelled flow run as killed if they are still RUNNING."""

    def fetch(self, run_id: str, artifact: str) -> bytes:
        """One file of a run. Raises RegistryError if it does not exist."""

    def attach(self, run_id: str, artifacts: Mapping[str, bytes]) -> None:
        """Add files to a finished run: path -> bytes."""

    def url(self, run_id: str, file: str = "") -> str | None:
        """The URL of the run's page, or of the page that shows one of its files; None without a server."""


@dataclass(frozen=True)
class ModelVersion:
    """A version of the registered model."""

    version: int
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True
    uri: str = ""
    """`models:/name/version`."""


class Registry(Protocol):
    """The registered model, its versions, and its two aliases: champion and challenger."""

    def versions_for(self, run_id: str) -> list[ModelVersion]:
        """The READY versions of a run with their tags, lowest first."""

    def create(self, run_id: str, model_uri: str, tags: Mapping[str, str], description: str) -> ModelVersion:
        """Register a run's model as a new version, described for people, and wait until it is READY."""

    def all_versions(self) -> list[ModelVersion]:
        """All versions with their tags, lowest first."""

    def get(self, version: int) -> ModelVersion:
        """A version with its tags. Raises RegistryError if it does not exist."""

    def champion(self) -> ModelVersion | None:
        """The live version. None only if the registered model exists and has no such alias."""

    def challenger(self) -> ModelVersion | None:
        """The version that is intended to go live next, or None."""

    def move(self, alias: str, to: int | None) -> None:
        """Point an alias at a version; None removes the alias."""

    def tag(self, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version, in the order of the mapping."""

    def describe(self, version: int, description: str, ours: str) -> None:
        """Set a version's description, unless a person has written one: theirs does not begin with `ours`."""

    def remove(self, version: int) -> None:
        """Remove a version that has no alias, for good."""

    def download(self, model_uri: str, into: Path) -> Path:
        """Copy a logged (`models:/m-...`) or registered MLflow model into a folder; returns the model's own folder in it."""

    def requirements(self, model_uri: str) -> str:
        """The text of a model's requirements.txt: one package a line, with its exact version."""


class Archive(Protocol):
    """Trainings that are over: removes them, and keeps the documents of their decisions, and the certificates of forgotten photos."""

    def deleted(self) -> list[RunSummary]:
        """Training runs that a person has deleted and whose files are still there; none where the service removes these itself."""

    def bytes_of(self, run: RunSummary) -> int | None:
        """Bytes of a run's files and of its models that `remove` frees; None where a service frees them later."""

    def files(self, run: RunSummary) -> list[str]:
        """All files of a run and of its models, also of a deleted run whose files are still there. Each is named by a path that only the
        methods below understand; its last part is the file's name.
        """

    def read(self, run: RunSummary, file: str) -> bytes:
        """One of these files. Raises RegistryError if it does not exist."""

    def replace(self, run: RunSummary, file: str, data: bytes | None) -> None:
        """Give one of these files another content. None: remove it, or where the store removes no files leave an empty one.

        With a store on this machine it is the old one or the new one at every moment.
        """

    def keep(self, documents: Mapping[str, bytes]) -> None:
        """Keep documents, by file name. A document of the same name is replaced."""

    def remove(self, runs: Sequence[RunSummary]) -> None:
        """Remove runs and their models. Their files go at once, or by the rules of the service that has them."""


class History(Protocol):
    """The champion's history: one MLflow run per promotion or rollback, created before anything changes."""

    def begin(self, intention: Intention) -> Move:
        """Record a move before it happens."""

    def close(self, move: Move, state: str, why: str = "") -> None:
        """Record how a move ended: DONE, FAILED or ABANDONED."""

    def moves(self, state: str | None = None) -> list[Move]:
        """All moves in this state, or in any; newest first."""


@dataclass(frozen=True)
class EndpointState:
    """The state of an endpoint."""

    exists: bool
    ready: bool = False
    updating: bool = False
    served: int | None = None
    """The version that gets all traffic and whose deployment is ready."""
    entity: str = ""
    """The name of the served entity. Each prediction contains it."""
    pending: int | None = None
    """The version that an update in progress will serve."""
    failed: bool = False
    """The last update failed; the endpoint still serves the previous config."""
    message: str = ""
    """The service's message about the version that is pending, failed or served."""
    coverage: float | None = None
    """The coverage to which the endpoint raises the served version's own. None: it does not."""


def served_name(model: str, version: int | str) -> str:
    """The name of a version in an endpoint's answers, routes and logs: the last part of the model's name, and the version.

    It has a dash for each character that Databricks refuses there: databricks-sdk, ServedEntityInput.name.
    """
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{model.rpartition('.')[2]}-{version}")


def version_of(served_by: str) -> int | None:
    """The version in the name of a served entity; None if it has none."""
    number = served_by.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) < 10 else None


@dataclass(frozen=True)
class Prediction:
    """An endpoint's answer for one photo."""

    label: str
    probability: float
    """The label's probability."""
    probabilities: Mapping[str, float]
    """Class -> probability."""
    served_by: str
    """The served entity that answered."""
    latency: float
    """Seconds."""
    classes: tuple[str, ...] | None = None
    """The classes that cannot be excluded. None: the model of an earlier release does not say."""
    review: bool | None = None
    """Whether a person must look; None as above."""
    map: tuple[tuple[float, ...], ...] | None = None
    """(h, w) where the damage was seen, from 0 to 1, if the query asked for it. None: it did not, or the model cannot say."""


class Serving(Protocol):
    """One endpoint, and its REST API.

    Every method raises Unavailable if the service does not answer, and RequestRefused if it refuses the token, the permission or the
    request.
    """

    def state(self) -> EndpointState:
        """The endpoint's state. A missing endpoint is a state, not an error."""

    def put(self, version: int, coverage: float | None = None) -> None:
        """Start to serve this version; creates the endpoint if it does not exist. Returns before the version is ready.

        Args:
            version: of the registered model.
            coverage: raises the model's own, so that more answers ask for a person.

        Raises UpdateInProgress if the endpoint is busy with an update to another version.
        """

    def query(self, photos: Sequence[bytes], *, explain: bool = False) -> list[Prediction]:
        """One prediction per photo, in order, from one request. `explain`: with maps."""

    def build_log(self, version: int) -> str:
        """The log of building and starting a version; empty if there is none."""


class Clock(Protocol):
    """Time, as a port so that tests do not have to wait."""

    def now(self) -> datetime:
        """The time in UTC."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never decreases."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Platform(Protocol):
    """All ports of one target, and its settings. Each port is created on first use."""

    @property
    def settings(self) -> Settings: ...
    @property
    def files(self) -> Files: ...
    @property
    def tables(self) -> Tables: ...
    @property
    def census(self) -> Census: ...
    @property
    def tracking(self) -> Tracking: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def archive(self) -> Archive: ...
    @property
    def history(self) -> History: ...
    @property
    def serving(self) -> Serving: ...
    @property
    def clock(self) -> Clock: ...
