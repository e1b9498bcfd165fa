"""Bronze as a list of photos, and the plan of one night or of many: for tests of the silver planner."""

import hashlib
from dataclasses import dataclass, field

import pyarrow as pa

from car_damage.data.photos import ledger
from car_damage.data.photos.assignment import ASSIGNED
from car_damage.data.photos.silver import BRONZE_COLUMNS, SILVER, SilverPlan, plan
from car_damage.settings import Split

SETTINGS = Split()
NOTHING = SILVER.empty_table()


@dataclass(frozen=True)
class Photo:
    """A row of bronze."""

    path: str
    label: str | None
    phash: int
    content: str = ""
    status: str = "valid"
    reason: str | None = None
    no_label: str | None = None
    said: str | None = None
    withheld: str | None = None

    @property
    def sha256(self) -> str:
        return hashlib.sha256((self.content or self.path).encode()).hexdigest()


def decide(photos: list[Photo], silver: pa.Table = NOTHING, split: Split = SETTINGS, assigned: pa.Table | None = None) -> SilverPlan:
    """The plan for these photos; without `assigned` as for tables of the version before, which had no table of splits."""
    rows = [
        {"path": p.path, "size": 1, "modified": 0, "sha256": p.sha256, "phash": signed(p.phash), "label": p.label}
        | {"status": p.status, "reason": p.reason, "detail": None, "width": 64, "height": 48}
        for p in photos
    ]
    bronze = pa.Table.from_pylist(rows, schema=pa.schema([ledger.BRONZE.field(name) for name in BRONZE_COLUMNS]))
    labels = pa.table(
        {
            "label": pa.array([p.label for p in photos], pa.string()),
            "reason": pa.array([p.no_label for p in photos], pa.string()),
            "elsewhere": pa.array([False] * len(photos)),
            "said": pa.array([p.said for p in photos], pa.string()),
            "withheld": pa.array([p.withheld for p in photos], pa.string()),
        }
    )
    return plan(bronze, labels, silver, ASSIGNED.empty_table() if assigned is None else assigned, split)


@dataclass
class Nights:
    """The tables that a night leaves to the next one."""

    silver: pa.Table = field(default_factory=SILVER.empty_table)
    assigned: pa.Table = field(default_factory=ASSIGNED.empty_table)
    split: Split = SETTINGS

    def night(self, *photos: Photo) -> dict[str, str]:
        """Plan these photos and write what was planned. Returns path -> split."""
        planned = decide(list(photos), self.silver, self.split, self.assigned)
        self.silver = planned.rows
        self.assigned = pa.concat_tables([self.assigned, planned.assigned])
        return splits(planned)


def splits(planned: SilverPlan) -> dict[str, str]:
    """Path -> split of the photos in silver."""
    return dict(zip(planned.rows["path"].to_pylist(), planned.rows["split"].to_pylist(), strict=True))


def reasons(planned: SilverPlan) -> dict[str, str]:
    """Path -> reason of the photos that silver does not use."""
    return dict(zip(planned.unused["path"].to_pylist(), planned.unused["reason"].to_pylist(), strict=True))


def unlike(number: int) -> int:
    """A hash for each number. No two of them are within 8 bits."""
    return int.from_bytes(hashlib.sha256(b"unlike%d" % number).digest()[:8])


def many(count: int, label: str = "minor", start: int = 0) -> list[Photo]:
    """Photos of one class that do not look alike."""
    return [Photo(f"/p/{label}/{number}", label, unlike(number)) for number in range(start, start + count)]


def crossing(rows: pa.Table, bits: int = 8) -> list[tuple[str, str]]:
    """sha256 of the pairs of rows (sha256, phash, split) that look alike and are in different splits."""
    given = rows.select(ASSIGNED.names).to_pylist()
    return [
        (one["sha256"], other["sha256"])
        for one in given
        for other in given
        if one["split"] != other["split"] and ((one["phash"] ^ other["phash"]) & (2**64 - 1)).bit_count() <= bits
    ]


def signed(phash: int) -> int:
    """As bronze stores it."""
    return phash - 2**64 if phash >= 2**63 else phash
