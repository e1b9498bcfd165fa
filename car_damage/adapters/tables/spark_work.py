"""Work on many files on Spark's machines: their verdicts, and a model's answers."""

import logging
import pickle
import time
from abc import ABC
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.columns import ANSWERS, result_schema
from car_damage.adapters.tables.delta import DeltaTables
from car_damage.adapters.tables.spark_answers import HEAVIEST, LARGEST, Asker, packed
from car_damage.adapters.tables.spark_calls import awaited
from car_damage.adapters.tables.spark_errors import WorkerDied, translated
from car_damage.adapters.tables.spark_files import Reader, parts
from car_damage.data.described import comment_of
from car_damage.errors import SettingsError, Terminal
from car_damage.model.served.process import Environment
from car_damage.ports import FileProcessor, Files

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LOOKS, LEAST = 20, 64
"""Number of steps in which files are processed, with progress after each; and the least number of tasks in a step."""
_TYPES = {
    "string": "string",
    "int64": "bigint",
    "bool": "boolean",
    "double": "double",
    "timestamp[us, tz=UTC]": "timestamp",
    "list<item: float>": "array<float>",
}

_log = logging.getLogger(__name__)


class SparkWork(DeltaTables, ABC):
    """The methods `each` and `answers` of the port `Tables`.

    Args:
        session: returns the session; called when a table is first used.
        files: lists the landing folder. Spark's own listing of binary files omits empty ones, which would never get a verdict.
        root: as `DeltaTables` has it, at the same path on this machine and on Spark's machines.
        sleep: as `DeltaTables` has it.
    """

    def __init__(
        self, session: "Callable[[], SparkSession]", files: Files, root: Path | None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(root, files, sleep)
        self._session = session

    def each(self, files: pa.Table, work: FileProcessor, schema: pa.Schema, tick: Callable[[int], None]) -> pa.Table:
        """See the port. Spark's machines read the files by their paths.

        If a photo ends the Python worker of its task, all files of that step are processed again, each in a process of its
        own, to find the photo.
        """
        if not isinstance(self._files, Folder):
            raise SettingsError(
                'landing.folder: with tables.engine = "spark" Spark\'s machines read the photos, and the folder is not mounted here: '
                'mount it at this path on all machines, or set tables.engine = "delta-rs"'
            )
        _check_size(work)
        whole = result_schema(schema)
        done = [whole.empty_table()]
        for some in _steps(parts(files)):
            try:
                done.append(self._work_on(some, Reader(work, whole, alone=False), whole))
            except WorkerDied as error:
                _log.warning("a file may have ended its process; processing the files of %d tasks one by one: %s", some.num_rows, error)
                done.append(self._work_on(some, Reader(work, whole, alone=True), whole))
            tick(sum(rows.num_rows for rows in done))
        return pa.concat_tables(done)

    def answers(self, files: pa.Table, model: Path, timeout: float, environment: Environment, chunk: int) -> Iterator[pa.Table]:
        """See the port. Spark's machines read the files by their paths, and run the model.

        This machine does what they cannot. What fails for the model's own fault fails here, too.
        """
        heavy = pc.greater(pc.fill_null(files["size"], 0), HEAVIEST)
        light, rest = files.filter(pc.invert(heavy)), files.filter(heavy)
        why = {"heavy": f"{rest.num_rows} have more than {HEAVIEST >> 20} MiB"} if rest.num_rows else {}
        done = 0
        try:
            for some in self._answers_of_tasks(light, model, timeout, environment):
                done += some.num_rows
                unread = pc.is_valid(some["unreadable"])
                if pc.any(unread).as_py():
                    here = some.filter(unread)
                    rest = pa.concat_tables([rest, light.filter(pc.is_in(light["path"], value_set=here["path"]))])
                    why.setdefault("unreadable", f"Spark's machines cannot read some ({here['unreadable'][0]})")
                yield some.filter(pc.invert(unread))
        except (Terminal, WorkerDied) as error:
            rest, why["failed"] = pa.concat_tables([rest, light.slice(done)]), str(error)
        if rest.num_rows:
            _log.warning("%d of %d photos are left to this machine: %s", rest.num_rows, files.num_rows, "; ".join(why.values()))
            yield from super().answers(rest, model, timeout, environment, chunk)

    def _answers_of_tasks(self, files: pa.Table, model: Path, timeout: float, environment: Environment) -> Iterator[pa.Table]:
        if not isinstance(self._files, Folder):
            raise Terminal("their folder is not mounted here, so Spark's machines may not have it either")
        if environment == "uv":
            raise Terminal("the model needs an environment of its own")
        asker = Asker(packed(model), timeout, ANSWERS)
        for some in _steps(parts(files)):
            yield self._work_on(some, asker, ANSWERS)

    def _work_on(self, tasks: pa.Table, function: "Reader | Asker", schema: pa.Schema) -> pa.Table:
        with translated("the photos"):
            # One row per task: repartition distributes the rows of a single partition evenly.
            frame = self._frame(tasks).coalesce(1).repartition(tasks.num_rows)
            return awaited(self._session(), frame.mapInArrow(function, ddl(schema)).toArrow).cast(schema)

    def _frame(self, rows: pa.Table) -> "DataFrame":
        if rows.num_rows:
            # As one chunk: Spark 4.2 stops reading at a chunk without rows, and loses the chunks after it.
            return self._session().createDataFrame(rows.combine_chunks())
        return self._session().createDataFrame([], ddl(rows.schema))  # Connect accepts no empty Arrow table


def _check_size(work: FileProcessor) -> None:
    if (size := len(pickle.dumps(work))) > LARGEST:
        raise Terminal(f"the work on each photo has {size >> 20} MiB, and at most {LARGEST >> 20} MiB travel to Spark's machines")


def _steps(tasks: pa.Table) -> Iterator[pa.Table]:
    """The tasks that run at the same time."""
    step = max(LEAST, -(-tasks.num_rows // LOOKS))
    return (tasks.slice(start, step) for start in range(0, tasks.num_rows, step))


def ddl(schema: pa.Schema, *, comments: bool = False) -> str:
    """The schema as a Spark DDL string."""
    return ", ".join(
        f"{quoted(field.name)} {_TYPES[str(field.type)]}{'' if field.nullable else ' NOT NULL'}"
        f"{f' COMMENT {literal(comment_of(field))}' if comments and comment_of(field) else ''}"
        for field in schema
    )


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quoted(name: str) -> str:
    """A name in SQL."""
    return "`" + name.replace("`", "``") + "`"
