"""The process that `benchmarks.scale` measures. Before each step it prints its name and waits for a line; after it, it prints the times."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.ingest import draw
from car_damage.data.photos.labels import Labeller
from car_damage.photo.limits import Limits
from car_damage.pipeline import SilverRequest, ValidateRequest
from car_damage.platform import Target
from car_damage.settings import Labels, Settings
from car_damage.stage import silent
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.validate import STAGE as VALIDATE
from car_damage.stages.validate import Verdict

WARM_UP = 256
"""Photos of the warm-up, which go into other tables. After it Java has compiled the hot code, and the Python workers are running."""


def main() -> None:
    folder, photos, engine = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    settings = _settings(folder, engine)
    session = None
    if engine != "delta-rs":
        from car_damage.adapters.tables.spark_session import session as start

        session = start(settings.spark, settings.home)
        session.range(1000).selectExpr("sum(id)").collect()

    warm = _settings(folder / "warm", engine)
    draw(Path(warm.landing.folder), WARM_UP)
    if engine.startswith("binaryFile"):
        _step("warm-up", lambda: _binary_file(session, Path(warm.landing.folder), WARM_UP), session)
        _step("first", lambda: _binary_file(session, folder / "landing", photos), session)
        return

    def ingest(settings: Settings = settings) -> dict[str, Any]:
        target = Target(settings)
        begun = time.perf_counter()
        validated = VALIDATE.work(ValidateRequest("bench"), target, silent)
        between = time.perf_counter()
        SILVER.work(SilverRequest("bench", validated.bronze_version), target, silent)
        return {"worked_on": validated.new, "validate": between - begun, "silver": time.perf_counter() - between}

    _step("warm-up", lambda: ingest(warm), session)
    _step("first", ingest, session)
    _step("nothing new", ingest, session)
    draw(folder / "landing" / "more", photos // 100, seed=1)
    _step("1 % new", ingest, session)


def _settings(folder: Path, engine: str) -> Settings:
    return Settings.model_validate(
        {
            "home": folder / "home",
            "landing": {"folder": str(folder / "landing")},
            "tables": {"engine": "delta-rs" if engine == "delta-rs" else "spark"},
            "spark": {"conf": {"spark.log.level": "ERROR"}},
        }
    )


def _step(name: str, work: Callable[[], dict[str, Any]], session: Any) -> None:
    print(json.dumps({"step": name}), flush=True)
    sys.stdin.readline()
    before = _tasks(session)
    result = work()
    print(json.dumps(result | {"tasks": None if session is None else _tasks(session) - before}), flush=True)
    sys.stdin.readline()


def _tasks(session: Any) -> int:
    """Tasks that Spark has completed so far. From an internal API of Spark, which only a benchmark may use."""
    if session is None:
        return 0
    executors = session.sparkContext._jsc.sc().statusStore().executorList(False)  # noqa: SLF001 - Spark has no public API for it
    return sum(executors.apply(number).completedTasks() for number in range(executors.size()))


def _binary_file(session: Any, landing: Path, photos: int) -> dict[str, Any]:
    """The baseline: Spark's `binaryFile` with the content column and one task for each file."""
    import pyarrow as pa

    verdict = Verdict(Limits(), Labeller(Labels(), str(landing)), "/nowhere/")

    def judged(batches: Any) -> Any:
        for batch in batches:
            rows = [verdict(file["path"].removeprefix("file:"), file["content"]) for file in batch.to_pylist()]
            yield pa.RecordBatch.from_pylist([{"sha256": row["sha256"], "status": row["status"]} for row in rows])

    session.conf.set("spark.sql.files.maxPartitionBytes", "1")
    begun = time.perf_counter()
    frame = session.read.format("binaryFile").option("recursiveFileLookup", "true").load(str(landing))
    rows = frame.select("path", "content").mapInArrow(judged, "sha256 string, status string").toArrow()
    assert rows.num_rows == photos
    return {"worked_on": photos, "validate": time.perf_counter() - begun, "silver": 0.0}


if __name__ == "__main__":
    main()
