"""Where things stand: tables, versions, endpoint, latest runs."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.errors import CarDamageError
from car_damage.ledger import PRESENT, below
from car_damage.ports import EndpointState, ModelVersion, Platform, RunSummary

LATEST_RUNS = 5


@dataclass(frozen=True)
class Status:
    """A look at everything."""

    bronze_version: int
    """-1 while there is no table."""
    files: int
    """Files with a verdict, of those in the landing folder."""
    rejected: dict[str, int]
    """Reason -> files."""
    silver_version: int
    classes: dict[str, dict[str, int]]
    """Label -> split -> photos."""
    champion: ModelVersion | None
    challenger: ModelVersion | None
    runs: tuple[RunSummary, ...]
    endpoint: EndpointState | None
    """None where it cannot be asked."""
    endpoint_problem: str
    """Why not."""

    @property
    def accepted(self) -> int:
        return self.files - sum(self.rejected.values())

    @property
    def photos(self) -> int:
        return sum(sum(splits.values()) for splits in self.classes.values())


def look(platform: Platform) -> Status:
    """Ask every part. An endpoint that does not answer is part of the picture; any other part that fails is an error."""
    names = platform.settings.tables
    bronze, bronze_version = platform.tables.read(names.bronze, ["path", "status", "reason"])
    here = pc.and_(pc.is_in(bronze["status"], PRESENT), below(platform.settings.landing.folder, bronze["path"]))
    present = bronze.filter(here)
    silver, silver_version = platform.tables.read(names.silver, ["label", "split"])
    endpoint, problem = None, ""
    try:
        endpoint = platform.serving.state()
    except CarDamageError as error:
        problem = str(error)
    return Status(
        bronze_version=bronze_version,
        files=present.num_rows,
        rejected=_counts(present["reason"].drop_null()),
        silver_version=silver_version,
        classes={label: _counts(silver.filter(pc.equal(silver["label"], label))["split"]) for label in platform.settings.labels.classes},
        champion=platform.registry.champion(),
        challenger=platform.registry.challenger(),
        runs=tuple(platform.tracking.recent(LATEST_RUNS)),
        endpoint=endpoint,
        endpoint_problem=problem,
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
