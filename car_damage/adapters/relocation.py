"""What is stored in a home folder and names its path: MLflow's locations, and the photos of a landing folder below it.

Only paths that begin with the earlier path of the home are rewritten. Each function may be repeated.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from car_damage.errors import Unavailable
from car_damage.machine import absolute
from car_damage.ports import Tables
from car_damage.settings import Settings
from car_damage.settings import Tables as TableNames

if TYPE_CHECKING:
    import pyarrow as pa

_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("datasets", "dataset_source"),
    ("trace_tags", "value"),
)
"""Columns of MLflow's database with paths. Some versions of MLflow lack some of them."""
_BUSY = 30.0
"""Seconds to wait for another process that writes to MLflow's database."""


def move_locations(database: Path, before: Path, after: Path) -> None:
    """Rewrite MLflow's locations in one transaction. Raises Unavailable if the database cannot be written."""
    if not database.exists():
        return
    with _connected(database) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table, column in _LOCATIONS:
            if column not in {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}:
                continue
            for form in ("{}/", "file://{}/", '{{"path": "{}/'):  # a dataset's source is JSON
                old, new = (form.format(json.dumps(str(path))[1:-1] if '"' in form else path) for path in (before, after))
                # An earlier call may have rewritten some, and a home may be moved into itself.
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 - names of ours
                    f"WHERE substr({column}, 1, ?) = ? AND NOT (? AND substr({column}, 1, ?) = ?)",
                    (new, len(old) + 1, len(old), old, new.startswith(old), len(new), new),
                )
        connection.execute("COMMIT")


def unnoted_home(home: Path) -> Path | None:
    """The path at which an earlier version has used this home, by MLflow's locations. None: this path, or it is unknown.

    A location counts only if it can have been this home's: the files of its run are here, or, where there is no run, no other store
    has chosen it.
    """
    database = home / "mlflow.db"
    if not database.exists():
        return None
    with _connected(database) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"runs", "experiments"} <= tables:
            return None
        for run, uri in connection.execute("SELECT run_uuid, artifact_uri FROM runs"):
            above, found, _ = (uri or "").partition(f"/artifacts/{run}/")
            if found and above.startswith("/") and Path(above) != home and (home / "artifacts" / run).is_dir():
                return Path(above)
        unused = "SELECT artifact_location FROM experiments WHERE experiment_id NOT IN (SELECT experiment_id FROM runs)"
        for location in (Path(text or "") for (text,) in connection.execute(unused)):
            above = location.parent
            is_a_home = not above.exists() or (above / "mlflow.db").exists()  # one that was moved, or the original of a copy
            if location.name == "artifacts" and location.is_absolute() and above != home and is_a_home:
                return above
    return None


def move_photos(tables: Tables, settings: Settings, before: Path) -> None:
    """Rewrite the paths of photos in a landing folder and a corrections folder below the home, so that they are neither gone nor new. One
    commit a table and a folder.

    Raises what `Tables.merge` raises.
    """
    for folder in (settings.landing.folder, settings.answers.corrections):
        photos = Path(absolute(folder))
        if settings.tables.names == "folders" and photos.is_relative_to(settings.home):
            _move(tables, settings.tables, f"{before / photos.relative_to(settings.home)}/", f"{photos}/")


def _move(tables: Tables, names: TableNames, old: str, new: str) -> None:
    from car_damage.data.answers.predictions import ADDED, KEY, PREDICTIONS
    from car_damage.data.photos import ledger, silver

    for table, schema, key in (
        (names.bronze, ledger.BRONZE, ledger.KEY),
        (names.silver, silver.SILVER, ("sha256",)),
        (names.predictions, PREDICTIONS, KEY),
    ):
        rows, version = tables.read(table, schema.names, optional=(*ledger.ADDED, *silver.ADDED, *ADDED))
        there = _below(ledger.conform(rows, schema, schema.names), old, new)
        if there.num_rows:
            moved = there
            for column in {"path", "detail"} & set(schema.names):
                moved = moved.set_column(moved.schema.get_field_index(column), schema.field(column), _renamed(moved[column], old, new))
            keys = list(key)
            gone = there.select(keys).join(moved.select(keys), keys, join_type="left anti")
            tables.merge(table, moved, key, remove=gone, base=version)


def _below(rows: "pa.Table", old: str, new: str) -> "pa.Table":
    import pyarrow.compute as pc

    there = pc.starts_with(rows["path"], old)
    return rows.filter(pc.and_not(there, pc.starts_with(rows["path"], new)) if new.startswith(old) else there)


def _renamed(paths: "pa.ChunkedArray", old: str, new: str) -> "pa.ChunkedArray":
    import pyarrow.compute as pc

    renamed = pc.binary_join_element_wise(new, pc.utf8_slice_codeunits(paths, len(old)), "")
    return pc.if_else(pc.fill_null(pc.starts_with(paths, old), False), renamed, paths)


@contextmanager
def _connected(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that commits nothing by itself."""
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise Unavailable(f"MLflow's database {database} cannot be brought to its path: {error}; try again") from error
