"""What the stages may touch of the world: the ports, and what passes through them.

Every effect of a stage that outlives it goes through a port. So a stage knows no platform, and a test can wrap a port
and stop the process before and after each call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from car_damage.moves import Intention, Move
from car_damage.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa


CHAMPION = "champion"
"""The alias of the version that is live."""
CHALLENGER = "challenger"
"""The alias of the version that is meant to go live next."""
KEY_TAG = "training_key"
"""The tag of runs and versions that tells the same model, trained twice, from another one."""
TAG_LIMIT = 1000
"""Characters of a tag's value that every store takes; Unity Catalog's limit."""


@dataclass(frozen=True)
class File:
    """One file of a listing."""

    path: str
    size: int
    """Bytes."""
    modified: datetime
    """UTC, whole milliseconds: the coarsest that every engine keeps."""


class Files(Protocol):
    """Files by path: a folder of this machine, or a volume. Nothing is ever removed, and only what was made to be is replaced."""

    def list(self, folder: str) -> Iterator[File]:
        """Every file below `folder`, in no order, but those below a name that starts with `_` or `.`."""

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises Unavailable when it cannot be read."""

    def write_once(self, path: str, data: bytes) -> None:
        """Create a file whole. Raises FileExistsError when there is one."""

    def replace(self, path: str, data: bytes) -> None:
        """Create a file, or replace all that is in it. A reader may meet half of it. Raises Unavailable."""


@dataclass(frozen=True)
class Landed:
    """The landing folder held against the bronze table."""

    new: "pa.Table"
    """path, size, modified: files of which bronze has no present row with the same three."""
    gone: "pa.Table"
    """path, size, modified, status: present bronze rows whose file is not there any more; status is
    `replaced` where another version of the path is listed, else `vanished`."""
    listed: int
    known: int
    """Present rows of bronze."""
    fingerprint: str
    """See `car_damage.data.ledger.landing_fingerprint`."""
    bronze_version: int
    """-1 while there is no table."""


class Work(Protocol):
    """What is done with each file: pure, and sent to a cluster."""

    def __call__(self, path: str, data: bytes) -> Mapping[str, Any]:
        """The row of a file, from its path and bytes."""

    def fatal(self, path: str, data: bytes, why: str) -> Mapping[str, Any]:
        """The row of a file whose bytes ended the process that worked on them. Must not decode them again."""


class Tables(Protocol):
    """Delta tables by three-level name."""

    def unseen(self, landing: str, bronze: str) -> Landed:
        """Compare a complete listing of the folder with the table. Raises Unavailable when any part of the folder cannot be listed."""

    def each(self, files: "pa.Table", work: Work, schema: "pa.Schema", tick: Callable[[int], None]) -> "pa.Table":
        """Read each file once and work on its bytes, with bounded memory.

        Args:
            files: path (string) and size (int64, bytes), one row a file.
            work: returns one row a file.
            schema: of these rows.
            tick: told how many files are done, now and then.

        Returns:
            `schema` with two columns in front: path, and unreadable (string, null where the file was read; the
            rest of that row is null otherwise). One row a file, in no order.
        """

    def read(self, table: str, columns: Sequence[str], version: int | None = None) -> "tuple[pa.Table, int]":
        """The columns at a version (None: the latest), and that version. A table that is not there has no rows and version -1.

        `table` may also be the absolute path of a table's folder, which is only ever read.
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
        """Update the rows whose key is there, insert the others, delete the keys in `remove`; all in one commit.

        Args:
            table: catalog.schema.table.
            rows: every column of the table; creates it when it is not there. Other columns may be left out of an
                update of rows that are all there.
            key: columns that tell rows apart.
            remove: the key columns of rows to delete.
            base: commit only if the table still stands at this version (-1: not there). None: retry over conflicts. Spark notices a
                writer of the last moment only after the commit: then rows stand, and the conflict is raised all the same.
            once: columns that are written when a row is inserted, and never updated.

        Returns:
            The table's version afterwards: unchanged when there was nothing to do.

        Raises:
            CommitConflict: another writer came first, again and again, or (with base) at all.
        """

    def uri(self, table: str) -> str:
        """Where a person finds the table: a path, or its name in the catalog."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished MLflow run whose model is there."""

    run_id: str
    model_uri: str
    metrics: dict[str, float]
    flow_run: str = ""
    """The flow run that trained it."""


@dataclass(frozen=True)
class RunSummary:
    """One training run, finished or not, for a person to look at."""

    run_id: str
    name: str
    status: str
    """MLflow's word: RUNNING, FINISHED, FAILED, KILLED."""
    started: datetime
    metrics: dict[str, float]


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
    """All that one training run leaves in MLflow."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: Mapping[str, Sequence[float]]
    """Metric -> one value an epoch."""
    folder: Path
    """Files to log as they lie: the .keras file, pictures, reports, predictions."""
    keras_file: Path
    """The model; (n, 224, 224, 3) uint8 in, (n, classes) softmax out."""
    example: bytes
    """A photo's bytes, the model's input example."""
    dataset: Dataset


class Tracking(Protocol):
    """MLflow runs."""

    def run_for(self, training_key: str) -> TrainedRun | None:
        """The latest finished run with this key whose model can still be read."""

    def recent(self, limit: int) -> list[RunSummary]:
        """The latest training runs, newest first."""

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """Start a run; returns its id. Runs with the same training_key that a kill left running are ended."""

    def log(self, run_id: str, contents: RunContents) -> str:
        """Log everything of a run and its model; returns the model's URI (`models:/m-...`)."""

    def finish(self, run_id: str, model_uri: str) -> None:
        """Mark the run as finished: only from here on `run_for` finds it."""

    def fail(self, run_id: str, message: str) -> None:
        """Mark the run as failed."""

    def abandon(self, flow_run: str) -> None:
        """End the runs of a flow run that was cancelled: as killed, where they are still running."""

    def fetch(self, run_id: str, artifact: str) -> bytes:
        """One file of a run. Raises RegistryError when it is not there."""

    def attach(self, run_id: str, artifacts: Mapping[str, bytes]) -> None:
        """Add files to a finished run: path -> bytes."""

    def url(self, run_id: str) -> str | None:
        """Where a person looks at the run; None without a server."""


@dataclass(frozen=True)
class ModelVersion:
    """A version of the registered model."""

    version: int
    run_id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    ready: bool = True
    uri: str = ""
    """`models:/name/version`, by which MLflow finds the version."""


class Registry(Protocol):
    """The registered model, its versions, and its two aliases: champion and challenger."""

    def versions_for(self, run_id: str) -> list[ModelVersion]:
        """The READY versions of a run, lowest first, with their tags."""

    def create(self, run_id: str, model_uri: str, tags: Mapping[str, str], description: str) -> ModelVersion:
        """Register a run's model as a new version, described for people, and wait until it is READY."""

    def get(self, version: int) -> ModelVersion:
        """A version with its tags. Raises RegistryError when there is none."""

    def champion(self) -> ModelVersion | None:
        """The version that is live. None only when the registered model is there and has no such alias."""

    def challenger(self) -> ModelVersion | None:
        """The version that is meant to go live next, or None."""

    def move(self, alias: str, to: int | None) -> None:
        """Point an alias at a version, or remove it."""

    def tag(self, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version, in the order given."""

    def download(self, model_uri: str, into: Path) -> Path:
        """Copy an MLflow model, logged (`models:/m-...`) or registered, below a folder; returns the model's own folder."""


class History(Protocol):
    """The champion's history: one MLflow run for each promotion and each rollback, begun before anything changes."""

    def begin(self, intention: Intention) -> Move:
        """Write down what is about to happen."""

    def close(self, move: Move, state: str, why: str = "") -> None:
        """Write down how it ended: DONE, FAILED or ABANDONED."""

    def moves(self, state: str | None = None) -> list[Move]:
        """All moves in this state, or in any; newest first."""


@dataclass(frozen=True)
class EndpointState:
    """An endpoint as it stands."""

    exists: bool
    ready: bool = False
    updating: bool = False
    served: int | None = None
    """The version that takes all traffic and whose deployment is ready."""
    entity: str = ""
    """The served entity's name, as answers name it."""
    pending: int | None = None
    """The version that an update in progress brings."""
    failed: bool = False
    """The last update failed; the config before it still serves."""
    message: str = ""


def served_name(model: str, version: int | str) -> str:
    """The name by which an endpoint's answers, routes and logs call a version: the model's last name and the version."""
    return f"{model.rpartition('.')[2]}-{version}"


@dataclass(frozen=True)
class Answer:
    """What an endpoint answered to one photo."""

    label: str
    probability: float
    probabilities: Mapping[str, float]
    served_by: str
    """The served entity that answered."""
    latency: float
    """Seconds."""


class Serving(Protocol):
    """One endpoint, and its REST API."""

    def state(self) -> EndpointState:
        """How the endpoint stands. An endpoint that is not there is a state, not an error."""

    def put(self, version: int) -> None:
        """Ask for this version, whole config; creates the endpoint when it is not there. Returns before it is ready."""

    def ask(self, photos: Sequence[bytes]) -> list[Answer]:
        """Send photos in one request."""

    def build_log(self, version: int) -> str:
        """What the endpoint printed while it built and started a version; empty when there is nothing."""


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> datetime:
        """UTC."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class Platform(Protocol):
    """All ports of one target, and its settings. Each port is made when it is first used."""

    @property
    def settings(self) -> Settings: ...
    @property
    def files(self) -> Files: ...
    @property
    def tables(self) -> Tables: ...
    @property
    def tracking(self) -> Tracking: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def history(self) -> History: ...
    @property
    def serving(self) -> Serving: ...
    @property
    def clock(self) -> Clock: ...
