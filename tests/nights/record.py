"""What is written down of each night: the tables as raw rows, the registry, and what the folder really held."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import deltalake

from car_damage.data.people.reviews import Word
from car_damage.moves import DONE
from car_damage.settings import Settings
from tests.nights.landing import ListedFile
from tests.nights.networks import Network
from tests.nights.world import Night, World

BRONZE = ("path", "size", "modified", "sha256", "phash", "label", "status", "reason")
REVIEWS = ("sha256", "label", "by", "said")
SILVER = ("path", "label", "sha256", "phash", "split")
Row = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """One run, and the world before and after it."""

    number: int
    """Of the night."""
    habit: str
    """What people did on the day before."""
    night: Night
    settings: Settings
    listed: Mapping[str, ListedFile]
    """Full path -> file, when the run began."""
    remaining: Mapping[str, ListedFile]
    """The same, when it had ended."""
    table: Mapping[str, str]
    """The table of labels: path relative to the landing folder -> word."""
    unreadable: frozenset[str]
    words: tuple[Word, ...]
    """What people had said when the run began, in the order of time."""
    reviews: list[Row]
    bronze: list[Row]
    silver: list[Row]
    before: Mapping[str, Any]
    """See `standing`."""
    after: Mapping[str, Any]
    networks: Mapping[int, Network]
    """Version -> its network, after the run."""
    trained: frozenset[str] = frozenset()
    """sha256 of every photo that any network was trained on, this run's included."""
    follows: "Record | None" = None
    """The failed run whose advice was followed."""
    normal: Mapping[str, Any] | None = None
    """Where this run came after a killed one: the state in which the run without the kill ended."""
    ended: Mapping[str, Any] | None = None
    """There, too: the state in which this run ended."""
    seconds: float = 0.0
    disk: int = 0
    """Bytes of the tables' folders."""
    fresh: int = 0
    """Bytes of the same rows in tables without a history; 0 where this was not measured."""


@dataclass
class Past:
    """What the invariants remember of the nights before."""

    keys: set[tuple[object, ...]] = field(default_factory=set)
    """(path, size, modified) of every row that bronze ever had."""
    splits: dict[str, str] = field(default_factory=dict)
    """sha256 -> the split that the content had first."""
    hashes: dict[str, int] = field(default_factory=dict)
    """sha256 -> perceptual hash, of every content that ever had a split."""

    def remember(self, record: Record) -> None:
        self.keys |= {key_of(row) for row in record.bronze}
        for row in record.silver:
            self.splits.setdefault(row["sha256"], row["split"])
            self.hashes[row["sha256"]] = row["phash"]


def key_of(row: Row) -> tuple[object, ...]:
    """The key of a row of bronze."""
    return row["path"], row["size"], row["modified"]


def rows(world: World, table: str, columns: tuple[str, ...]) -> list[Row]:
    """Read by delta-rs itself and not by the project's code."""
    folder = _folder(world, table)
    return deltalake.DeltaTable(str(folder)).to_pyarrow_table(columns=list(columns)).to_pylist() if folder.is_dir() else []


def standing(world: World) -> dict[str, Any]:
    """Everything that a run may change: each table (the last file of its log), runs, model versions, aliases, moves, and what is served."""
    root = world.home / "tables"
    logs = {".".join(log.parent.relative_to(root).parts): log for log in root.rglob("_delta_log")}
    return {
        **{table: max(log.glob("*.*")).name for table, log in logs.items()},
        "runs": dict(world.tracking.states),
        "versions": {number: dict(version.tags) for number, version in world.registry.versions.items()},
        "aliases": dict(world.registry.aliases),
        "moves": world.history.told,
        "served": world.serving.served,
        "by a person": next((move.intention.by_person for move in world.history.moves(DONE)), False),
    }


def state(world: World) -> dict[str, Any]:
    """What must not depend on a kill: all but ids, times, and the runs that were given up."""
    own = {"flow_run", "promoted_by_flow_run", "silver_version"}
    return {
        "bronze": sorted(map(repr, rows(world, world.settings.tables.bronze, BRONZE))),
        "silver": sorted(map(repr, rows(world, world.settings.tables.silver, SILVER))),
        "reviews": sorted(map(repr, rows(world, world.settings.tables.reviews, REVIEWS))),
        "versions": {n: {k: v for k, v in one.tags.items() if k not in own} for n, one in world.registry.versions.items()},
        "aliases": dict(world.registry.aliases),
        "moves": [move for move in world.history.told if move[-1] == DONE],
        "served": world.serving.served,
    }


def networks(world: World) -> dict[int, Network]:
    return {number: world.tracking.networks[version.uri] for number, version in world.registry.versions.items()}


def disk(world: World) -> int:
    return size_of(world.home / "tables")


def fresh(world: World) -> int:
    """Bytes of the same rows in tables without a history."""
    with tempfile.TemporaryDirectory(prefix="car-damage-nights-") as folder:
        write_fresh(world, Path(folder))
        return size_of(Path(folder))


def write_fresh(world: World, tables: Path) -> None:
    """Write the rows of all tables to new tables below a folder, each in one go."""
    root = world.home / "tables"
    for log in root.rglob("_delta_log"):
        rows = deltalake.DeltaTable(str(log.parent)).to_pyarrow_table()
        deltalake.write_deltalake(str(tables / log.parent.relative_to(root)), rows)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _folder(world: World, table: str) -> Path:
    return world.home.joinpath("tables", *table.split("."))
