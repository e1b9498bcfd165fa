"""A platform with real Delta tables in a temporary folder, and photos drawn for each test."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from car_damage.adapters.folder import Folder
from car_damage.adapters.tables.delta_rs import DeltaRs
from car_damage.data.photos.assignment import ASSIGNED
from car_damage.data.photos.silver import ADDED
from car_damage.data.photos.silver import SILVER as SILVER_ROW
from car_damage.photo.decoder import inspect
from car_damage.pipeline import SilverReport, SilverRequest, ValidateReport, ValidateRequest, silver_request
from car_damage.ports import Files, Tables
from car_damage.settings import Settings
from car_damage.stage import silent
from car_damage.stages.silver import STAGE as SILVER
from car_damage.stages.validate import STAGE as VALIDATE
from tests import engines
from tests.engines import DELTA_RS, Sessions

BRONZE_TABLE, SILVER_TABLE = "insurance_uc.bronze.raw_images", "insurance_uc.silver.training_images"
SPLITS_TABLE = "insurance_uc.silver.splits"


class HandClock:
    """A clock that advances only during `sleep`."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)


@dataclass
class TablesOnly:
    """A platform that has only files, tables and a clock."""

    settings: Settings
    files: Files
    tables: Tables
    clock: HandClock = field(default_factory=HandClock)

    def __getattr__(self, port: str) -> Any:
        raise AssertionError(f"validate and silver must not touch the port {port}")


class Workshop:
    """One landing folder, its tables, and the two stages that process them."""

    def __init__(
        self, root: Path, tables: Callable[[Path], Tables] | None = None, landing: Path | None = None, **sections: dict[str, Any]
    ) -> None:
        self.root = root
        self.tables = tables
        self.landing = landing or root / "landing"
        self.landing.mkdir(exist_ok=True)
        self.configure(**sections)

    def configure(self, **sections: dict[str, Any]) -> None:
        landing = {"folder": str(self.landing)} | sections.pop("landing", {})
        settings = Settings(home=self.root / "home", landing=landing, **sections)  # type: ignore[arg-type]
        files = Folder()
        tables = self.tables(settings.home / "tables") if self.tables else DeltaRs(settings.home / "tables", files, settings.images)
        self.platform = TablesOnly(settings, files, tables)

    def put(self, name: str, data: bytes, age: int = 0) -> Path:
        """Write a file. Its modification time is `age` seconds before a fixed moment."""
        path = self.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        moment = 1_700_000_000 - age
        os.utime(path, (moment, moment))
        return path

    def validate(self, **words: bool) -> ValidateReport:
        return VALIDATE.work(ValidateRequest("flow-run", **words), self.platform, silent)

    def silver(self, bronze_version: int = 0) -> SilverReport:
        return SILVER.work(SilverRequest("flow-run", bronze_version), self.platform, silent)

    def run(self, **words: bool) -> tuple[ValidateReport, SilverReport]:
        """A night. A person may have said allow_removals or retire_other_folders."""
        request = ValidateRequest("flow-run", **words)
        validated = VALIDATE.work(request, self.platform, silent)
        return validated, SILVER.work(silver_request(request, validated), self.platform, silent)

    def bronze_rows(self) -> list[dict[str, Any]]:
        columns = ["path", "size", "modified", "sha256", "label", "status", "reason", "detail", "ingest_run"]
        rows, _ = self.platform.tables.read(BRONZE_TABLE, columns)
        return [row | {"path": self.name(row["path"])} for row in rows.sort_by("path").to_pylist()]

    def bronze(self) -> dict[str, tuple[str, str | None]]:
        """Name -> status and reason of its present version, or else of its only one."""
        rows = sorted(self.bronze_rows(), key=lambda row: row["status"] in {"valid", "rejected"})
        return {row["path"]: (row["status"], row["reason"]) for row in rows}

    def silver_rows(self) -> dict[str, dict[str, Any]]:
        """Name -> row."""
        rows, _ = self.platform.tables.read(SILVER_TABLE, SILVER_ROW.names, optional=ADDED)
        named = {self.name(row["path"]): row for row in rows.to_pylist()}
        assert len(named) == rows.num_rows
        return named

    def splits(self) -> dict[str, str]:
        return {name: row["split"] for name, row in self.silver_rows().items()}

    def assigned(self) -> dict[str, str]:
        """sha256 -> split of every content that was ever in silver."""
        rows, _ = self.platform.tables.read(SPLITS_TABLE, ASSIGNED.names)
        found = dict(zip(rows["sha256"].to_pylist(), rows["split"].to_pylist(), strict=True))
        assert len(found) == rows.num_rows
        return found

    def name(self, path: str) -> str:
        return path.removeprefix(f"{self.landing}/")


@pytest.fixture
def workshop(tmp_path: Path, engine: str, sessions: Sessions) -> Workshop:
    return Workshop(tmp_path, None if engine == DELTA_RS else lambda root: engines.tables(engine, root, sessions))


def pixels(seed: int) -> np.ndarray:
    """A picture that is unique to its seed: smooth random clouds, (96, 128, 3) uint8."""
    clouds = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(clouds).resize((128, 96), Image.Resampling.BICUBIC))


def encode(picture: np.ndarray, quality: int = 95) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()


@pytest.fixture(scope="session")
def photo() -> Callable[..., bytes]:
    """photo(seed, quality=95) -> JPEG bytes; the same seed at another quality is a near-duplicate."""
    return lambda seed, quality=95: encode(pixels(seed), quality)


@pytest.fixture(scope="session")
def chain() -> tuple[bytes, bytes, bytes]:
    """Three photos: the middle one resembles both others, which do not resemble each other."""
    for seed in range(100):
        one, other = pixels(seed).astype(float), pixels(seed + 1000).astype(float)
        steps = [encode(np.uint8(one * (1 - t) + other * t)) for t in np.linspace(0, 1, 41)]
        hashes = [inspect(step).phash for step in steps]
        assert None not in hashes
        for middle in range(1, 40):
            for low in range(middle):
                for high in range(middle + 1, 41):
                    gap = lambda a, b: ((hashes[a] ^ hashes[b]) & (2**64 - 1)).bit_count()  # noqa: B023, E731
                    if gap(low, middle) <= 8 and gap(middle, high) <= 8 and gap(low, high) > 8:
                        return steps[low], steps[middle], steps[high]
    raise AssertionError("no such three photos")
