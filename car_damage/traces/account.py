"""The account of a photo: all that is known of it, and of each model version that has answered it or learned from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from car_damage.data import forgotten
from car_damage.data.answers.predictions import ADDED
from car_damage.data.forgotten import FORGOTTEN, mark_of
from car_damage.data.people import reviews
from car_damage.data.photos import ledger, silver
from car_damage.errors import RegistryError
from car_damage.moves import Move
from car_damage.pipeline import Trace
from car_damage.ports import BRONZE_TAG, KEY_TAG, SILVER_TAG, ModelVersion, Platform, RunSummary, Where
from car_damage.promotion.tags import DECISION, JUDGED_AGAINST, REASONS, numbers_of
from car_damage.traces.places import places, with_paths
from car_damage.traces.rows import HASH
from car_damage.traces.sought import SoughtPhoto

_ANSWER = ("model_version", "label", "probability", "probabilities", "classes", "review", "refused", "sha256")


@dataclass(frozen=True)
class Answer:
    """An answer that a table keeps."""

    table: str
    version: int | None
    label: str | None
    """None: the version refused the photo."""
    probabilities: Mapping[str, float]
    classes: tuple[str, ...] | None
    review: bool | None
    refused: str | None
    to: str
    """Path of the file, or id of the request."""
    when: str
    """ISO 8601, UTC."""
    sha256: str | None = None


@dataclass(frozen=True)
class Account:
    """All that is known of a photo."""

    sha256: str
    files: tuple[Mapping[str, Any], ...]
    """Rows of bronze."""
    training: Mapping[str, Any] | None
    """The row of silver."""
    answers: tuple[Answer, ...]
    versions: tuple[Mapping[str, Any], ...]
    """What is known of each version that has answered it, or learned from it."""
    words: tuple[Mapping[str, Any], ...]
    """What people have said of it."""
    found: tuple[Trace, ...]
    """All places that have it."""
    not_kept: tuple[str, ...] = field(default=())
    """What is asked for and not known."""


def account(sha256: str, platform: Platform) -> Account:
    """Look everywhere.

    Raises:
        Unavailable: a place cannot be looked at.
    """
    names, tables = platform.settings.tables, platform.tables
    sought = with_paths(SoughtPhoto(sha256.__eq__), platform)
    traces = tuple(trace for place in places(platform) for trace in place.find(sought))
    files, bronze = _rows(sha256, names.bronze, ledger.BRONZE.names, platform, ledger.ADDED)
    used, at = _rows(sha256, names.silver, silver.SILVER.names, platform, silver.ADDED)
    words, _ = _rows(sha256, names.reviews, reviews.REVIEWS.names, platform)
    answers = answers_of(platform, sha256)
    numbers = {one.version for one in answers if one.version is not None} | {one.version for one in traces if one.version is not None}
    versions, lost = _versions(sorted(numbers), platform)
    training = used[0] | {"silver_version_now": at, "bronze_version_now": bronze} if used else None
    missing = [*lost, *_missing(files, answers)]
    rows, _ = tables.read(names.forgotten, FORGOTTEN.names)
    if (photo := forgotten.photo_of(rows, mark_of(sha256))) is not None:
        missing.append(f"the photo was forgotten: asked for {photo.noted:%Y-%m-%d %H:%M} by {photo.by}")
    return Account(sha256, tuple(files), training, answers, tuple(versions), tuple(words), traces, tuple(missing))


def answers_of(platform: Platform, sha256: str | None = None) -> tuple[Answer, ...]:
    """The answers that tables keep to a photo, oldest first; None: to all photos whose hash they keep. Raises Unavailable."""
    where = None if sha256 is None else Where(HASH, among=[sha256])
    names, found = platform.settings.tables, list[Answer]()
    for table, to, when in ((names.predictions, "path", "scored"), (names.inference_log, "request_id", "answered")):
        rows, _ = platform.tables.read(table, [*_ANSWER, to, when], optional=ADDED, where=where)
        wanted = pc.is_valid(rows["sha256"]) if sha256 is None else pc.equal(rows["sha256"], sha256)
        found += [_answer(table, row, row[to], row[when]) for row in rows.filter(pc.fill_null(wanted, False)).to_pylist()]
    return tuple(sorted(found, key=lambda one: (one.when, one.to)))


def _answer(table: str, row: Mapping[str, Any], to: Any, when: Any) -> Answer:
    classes = tuple(json.loads(row["classes"])) if row["classes"] else None
    given = json.loads(row["probabilities"] or "{}")
    said = when.isoformat() if when else ""
    return Answer(table, row["model_version"], row["label"], given, classes, row["review"], row["refused"], str(to), said, row["sha256"])


def _rows(
    sha256: str, table: str, columns: Sequence[str], platform: Platform, optional: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], int]:
    rows, version = platform.tables.read(table, columns, optional=optional, where=Where(HASH, among=[sha256]))
    return rows.filter(pc.fill_null(pc.equal(rows["sha256"], sha256), False)).to_pylist(), version


def _versions(numbers: Sequence[int], platform: Platform) -> tuple[list[Mapping[str, Any]], list[str]]:
    """What is known of each version; and which are gone."""
    runs = {run.run_id: run for run in platform.tracking.recent()} if numbers else {}
    moves = platform.history.moves() if numbers else []
    known: list[Mapping[str, Any]] = []
    lost = []
    for number in numbers:
        try:
            version = platform.registry.get(number)
        except RegistryError:
            kept = f"the archive of decisions in MLflow has decisions/version-{number}.json"
            lost.append(f"version {number} is not in the registry any more; if it was tidied up, {kept}")
            continue
        known.append(_version(version, runs.get(version.run_id), moves))
        if not known[-1].get("bronze_version"):
            lost.append(f"the bronze version from which the photos of version {number} came")
    return known, lost


def _version(version: ModelVersion, run: RunSummary | None, moves: Sequence[Move]) -> dict[str, Any]:
    tags = version.tags
    trained: dict[str, Any] = (
        {} if run is None else {"run": run.name, "started": run.started.isoformat(), "status": run.status} | _of_data(run.tags)
    )
    decision = {"decision": tags.get(DECISION), "against": tags.get(JUDGED_AGAINST), "reasons": tags.get(REASONS)}
    lives = [
        {
            "what": move.intention.kind,
            "state": move.state,
            "when": move.started.isoformat(),
            "by": move.intention.by,
            "why": move.intention.reason,
        }
        for move in moves
        if move.intention.version == version.version
    ]
    return {"version": version.version, "run_id": version.run_id, **trained, **decision, "numbers": numbers_of(version), "moves": lives}


def _of_data(tags: Mapping[str, str]) -> dict[str, str | None]:
    """The data and the settings of a training, by its tags."""
    wanted = {
        "silver_table": "silver_table",
        "silver_version": SILVER_TAG,
        "bronze_version": BRONZE_TAG,
        "silver_fingerprint": "silver_fingerprint",
        "training_key": KEY_TAG,
    }
    return {name: tags.get(tag) for name, tag in wanted.items()}


def _missing(files: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> list[str]:
    missing = []
    if not files:
        missing.append("bronze has no file with this content: it never landed, or its rows were removed")
    if not answers:
        missing.append("no table keeps an answer to it")
    missing += [f"{one.table} does not say which version answered {one.to}" for one in answers if one.version is None]
    return missing
