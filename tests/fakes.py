"""Small fakes for the ports of the control plane. Each test sets how they behave."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from car_damage.errors import RegistryError, Unavailable, UpdateInProgress
from car_damage.moves import UNDERWAY, Intention, Move
from car_damage.ports import EndpointState, File, ModelVersion, Prediction, RunSummary, Space, Where
from car_damage.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa


class Time:
    """A clock that advances only during `sleep`, which also calls each of `happenings`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.happenings: list[Callable[[], None]] = []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        for happen in self.happenings:
            happen()


class Photos:
    """Port Files on a dictionary."""

    def __init__(self, photos: Mapping[str, bytes]) -> None:
        self.photos = dict(photos)

    def list(self, folder: str) -> list[File]:  # type: ignore[override]
        return [File(path, len(data), datetime.fromtimestamp(0, UTC)) for path, data in self.photos.items() if path.startswith(folder)]

    def drafts(self, folder: str) -> Iterator[File]:
        del folder
        yield from ()

    def read(self, path: str) -> bytes:
        try:
            return self.photos[path]
        except KeyError as error:
            raise Unavailable(f"{path} is not there") from error


class Versions:
    """Port Registry in memory."""

    def __init__(self) -> None:
        self.versions: dict[int, ModelVersion] = {}
        self.descriptions: dict[int, str] = {}
        self.aliases: dict[str, int] = {}
        self.moves: list[tuple[str, int | None]] = []
        self.folders: dict[str, Path] = {}
        """URI -> the folder of a saved model."""

    def add(self, version: int, **tags: str) -> ModelVersion:
        self.versions[version] = ModelVersion(version, f"run-{version}", tags, uri=f"models:/model/{version}")
        return self.versions[version]

    def versions_for(self, run_id: str) -> list[ModelVersion]:
        return [version for _, version in sorted(self.versions.items()) if version.run_id == run_id]

    def all_versions(self) -> list[ModelVersion]:
        return [version for _, version in sorted(self.versions.items())]

    def create(self, run_id: str, model_uri: str, tags: Mapping[str, str], description: str) -> ModelVersion:
        version = len(self.versions) + 1
        self.descriptions[version] = description
        self.versions[version] = ModelVersion(version, run_id, dict(tags), uri=model_uri)
        return self.versions[version]

    def describe(self, version: int, description: str, ours: str) -> None:
        if self.descriptions.get(version, "").startswith(ours):
            self.descriptions[version] = description

    def remove(self, version: int) -> None:
        if version in self.aliases.values():
            raise RegistryError(f"version {version} has an alias")
        del self.versions[version]

    def download(self, model_uri: str, into: Path) -> Path:
        """The folder of a saved model, if there is one. Otherwise the folder's name identifies the model."""
        return self.folders.get(model_uri, into / model_uri.replace("/", "_"))

    def requirements(self, model_uri: str) -> str:
        return (self.folders[model_uri] / "requirements.txt").read_text()

    def get(self, version: int) -> ModelVersion:
        if version not in self.versions:
            raise RegistryError(f"there is no version {version}")
        return self.versions[version]

    def champion(self) -> ModelVersion | None:
        return self.get(self.aliases["champion"]) if "champion" in self.aliases else None

    def challenger(self) -> ModelVersion | None:
        return self.get(self.aliases["challenger"]) if "challenger" in self.aliases else None

    def move(self, alias: str, to: int | None) -> None:
        self.moves.append((alias, to))
        if to is None:
            self.aliases.pop(alias, None)
        else:
            self.aliases[alias] = to

    def tag(self, version: int, tags: Mapping[str, str]) -> None:
        self.versions[version] = replace(self.versions[version], tags={**self.versions[version].tags, **tags})


class Moves:
    """Port History in memory."""

    def __init__(self) -> None:
        self.all: list[Move] = []

    def begin(self, intention: Intention) -> Move:
        at = datetime.fromtimestamp(len(self.all), UTC)
        self.all.append(Move(f"move-{len(self.all)}", intention, at, None, UNDERWAY))
        return self.all[-1]

    def close(self, move: Move, state: str, why: str = "") -> None:
        index = next(index for index, one in enumerate(self.all) if one.run_id == move.run_id)
        self.all[index] = replace(self.all[index], state=state, failure=why, ended=self.all[index].started)

    def moves(self, state: str | None = None) -> list[Move]:
        return [move for move in reversed(self.all) if state in (None, move.state)]

    @property
    def told(self) -> list[tuple[str, int | None, int, str]]:
        """(kind, from, to, state) of each move, oldest first."""
        return [(move.intention.kind, move.intention.replaces, move.intention.version, move.state) for move in self.all]


@dataclass
class Endpoint:
    """Port Serving: each update takes several calls of `state`, and each version answers as the test configures it."""

    answers: dict[int, dict[str, float]]
    """Version -> its probabilities, the same for every photo."""
    looks: int = 2
    """Calls of `state` until an update is done."""
    broken: set[int] = field(default_factory=set)
    """Versions that never become ready."""
    served: int | None = None
    pending: int | None = None
    failed: bool = False
    puts: list[int] = field(default_factory=list)
    left: int = 0
    coverage: float | None = None
    coming: float | None = None
    refusals: list[Exception] = field(default_factory=list)
    """Each of the next calls of `query` raises one."""
    outages: list[Exception] = field(default_factory=list)
    """Each of the next calls of `state` raises one."""

    def state(self) -> EndpointState:
        if self.outages:
            raise self.outages.pop(0)
        if self.pending is not None:
            self.left -= 1
            if self.left <= 0:
                self._settle()
        return EndpointState(
            exists=self.served is not None or self.pending is not None or self.failed,
            ready=self.served is not None,
            updating=self.pending is not None,
            served=self.served,
            entity=f"model-{self.served}",
            pending=self.pending,
            failed=self.failed,
            message="it did not start" if self.failed else "",
            coverage=self.coverage,
        )

    def put(self, version: int, coverage: float | None = None) -> None:
        if self.pending not in (None, version):
            raise UpdateInProgress("RESOURCE_CONFLICT")
        self.puts.append(version)
        self.pending, self.left, self.failed, self.coming = version, self.looks, False, coverage

    def query(self, photos: Sequence[bytes], *, explain: bool = False) -> list[Prediction]:
        if self.refusals:
            raise self.refusals.pop(0)
        if self.served is None:
            raise Unavailable("the endpoint is not ready")
        probabilities = self.answers[self.served]
        label = max(probabilities, key=lambda name: probabilities[name])
        seen = ((0.0, 1.0), (0.0, 0.0)) if explain else None
        return [Prediction(label, probabilities[label], probabilities, f"model-{self.served}", 0.01, map=seen) for _ in photos]

    def build_log(self, version: int) -> str:
        return f"building version {version}\nImportError: no module named nothing"

    def _settle(self) -> None:
        if self.pending in self.broken:
            self.failed = True
        else:
            self.served, self.coverage = self.pending, self.coming
        self.pending = None


class Runs:
    """Port Tracking, but only the files of runs, and a list of runs, latest first."""

    def __init__(self, files: Mapping[tuple[str, str], bytes], runs: Sequence[RunSummary] = ()) -> None:
        self.files = dict(files)
        self.runs = list(runs)

    def recent(self, limit: int | None = None) -> list[RunSummary]:
        return self.runs[:limit]

    def fetch(self, run_id: str, artifact: str) -> bytes:
        try:
            return self.files[run_id, artifact]
        except KeyError as error:
            raise RegistryError(f"run {run_id} has no {artifact}") from error

    def url(self, run_id: str, file: str = "") -> None:
        """There is no server."""

    def attach(self, run_id: str, artifacts: Mapping[str, bytes]) -> None:
        self.files.update({(run_id, name): data for name, data in artifacts.items()})


class Table:
    """Port Tables with one table, which has one version. What is merged is kept and not read again."""

    def __init__(self, rows: "pa.Table") -> None:
        self.rows = rows
        self.merged: list[tuple[str, pa.Table]] = []

    def read(self, table: str, columns: Sequence[str], version: int | None = None) -> "tuple[pa.Table, int]":
        del table
        return self.rows.select(list(columns)), version or 0

    def merge(self, table: str, rows: "pa.Table", key: Sequence[str]) -> int:
        del key
        self.merged.append((table, rows))
        return 1


class Shelf:
    """Port Archive in memory. Each run has 1,000 bytes."""

    def __init__(self, trash: Sequence[RunSummary] = ()) -> None:
        self.trash = list(trash)
        self.documents: dict[str, bytes] = {}
        self.removed: list[str] = []

    def deleted(self) -> list[RunSummary]:
        return list(self.trash)

    def bytes_of(self, run: RunSummary) -> int:
        del run
        return 1_000

    def files(self, run: RunSummary) -> list[str]:
        """A run has none here."""
        del run
        return []

    def keep(self, documents: Mapping[str, bytes]) -> None:
        self.documents.update(documents)

    def remove(self, runs: Sequence[RunSummary]) -> None:
        self.trash = [run for run in self.trash if run not in runs]
        self.removed += [run.run_id for run in runs]


class Tidied:
    """Port Tables, but only `tidy`: each table has as much to remove as the test says, and records for whom it kept versions. Of the other
    methods it has those that remove rows.
    """

    def __init__(self, spaces: Mapping[str, Space | None], rows: "Mapping[str, pa.Table] | None" = None) -> None:
        self.spaces = dict(spaces)
        self.rows = dict(rows or {})
        self.needed: dict[str, set[int]] = {}
        self.days: set[int] = set()

    def tidy(self, table: str, keep_days: int, needed: Collection[int], *, dry_run: bool = False) -> Space | None:
        self.needed[table] = set(needed)
        self.days.add(keep_days)
        return self.spaces.get(table, Space()) if dry_run else self.spaces.pop(table, Space())

    def read(self, table: str, columns: Sequence[str], *, where: Where | None = None) -> "tuple[pa.Table, int]":
        import pyarrow as pa
        import pyarrow.compute as pc

        if table not in self.rows:
            return pa.table({column: pa.nulls(0) for column in columns}), -1
        found = self.rows[table]
        if where is not None and where.most is not None:
            found = found.filter(pc.less_equal(found[where.column], where.most))
        return found.select(list(columns)), 0

    def merge(self, table: str, rows: "pa.Table", key: Sequence[str], *, remove: "pa.Table") -> int:
        assert not rows.num_rows
        gone = [tuple(row.values()) for row in remove.select(list(key)).to_pylist()]
        self.rows[table] = self.rows[table].filter(
            [tuple(row.values()) not in gone for row in self.rows[table].select(list(key)).to_pylist()]
        )
        return 1


@dataclass
class World:
    """A platform made of fakes."""

    settings: Settings
    files: Photos
    registry: Versions
    serving: Endpoint
    tracking: Runs
    tables: Table | Tidied | None = None
    clock: Time = field(default_factory=Time)
    history: Moves = field(default_factory=Moves)
    archive: Shelf = field(default_factory=Shelf)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
