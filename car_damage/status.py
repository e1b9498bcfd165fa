"""Where things stand: tables, versions, endpoint, latest runs."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.decision import decided_of, waits_for_approval
from car_damage.errors import CarDamageError
from car_damage.ledger import PRESENT, VALID, below
from car_damage.ports import EndpointState, ModelVersion, Platform, RunSummary

LATEST_RUNS = 5


@dataclass(frozen=True)
class Status:
    """A look at everything."""

    bronze_version: int
    """-1 while there is no table."""
    files: int
    """Files with a verdict, of those in the landing folder."""
    elsewhere: int
    """Valid files of another landing folder, which the setting named when they were found. They stay in use."""
    rejected: dict[str, int]
    """Reason -> files."""
    silver_version: int
    classes: dict[str, dict[str, int]]
    """Label -> split -> photos."""
    champion: ModelVersion | None
    challenger: ModelVersion | None
    runs: tuple[RunSummary, ...]
    versions: dict[str, ModelVersion]
    """Run id -> the version of that run, for those that have one."""
    awaiting: tuple[ModelVersion, ...]
    """Versions that wait for a person's approval."""
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
    present = bronze  # a table that is not there has no types to compare with either
    if bronze_version >= 0:
        present = bronze.filter(pc.is_in(bronze["status"], PRESENT))
    here = present.filter(below(platform.settings.landing.folder, present["path"])) if bronze_version >= 0 else present
    silver, silver_version = platform.tables.read(names.silver, ["label", "split"])
    runs, champion = tuple(platform.tracking.recent(LATEST_RUNS)), platform.registry.champion()
    found = {run.run_id: platform.registry.versions_for(run.run_id) for run in runs}
    versions = {run_id: decided_of(some) or some[0] for run_id, some in found.items() if some}
    endpoint, problem = None, ""
    try:
        endpoint = platform.serving.state()
    except CarDamageError as error:
        problem = str(error)
    return Status(
        bronze_version=bronze_version,
        files=here.num_rows,
        elsewhere=_valid(present) - _valid(here),
        rejected=_counts(here["reason"].drop_null()),
        silver_version=silver_version,
        classes={label: _splits(silver, label) for label in platform.settings.labels.classes} if silver_version >= 0 else {},
        champion=champion,
        challenger=platform.registry.challenger(),
        runs=runs,
        versions=versions,
        awaiting=tuple(version for version in versions.values() if waits_for_approval(version, champion)),
        endpoint=endpoint,
        endpoint_problem=problem,
    )


def _valid(bronze: pa.Table) -> int:
    return _counts(bronze["status"]).get(VALID, 0)


def _splits(silver: pa.Table, label: str) -> dict[str, int]:
    return _counts(silver.filter(pc.equal(silver["label"], label))["split"])


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
