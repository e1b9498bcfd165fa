"""Stage monitor: compares what the endpoint was asked and answered with the training of the version that answered.

It looks at the windows of the request log that have ended since it looked last, and writes a row for each. Rows are written in one commit
for each version, and where the last row ends the next window begins: asked again after a kill, the stage goes on after the last row.
What was written is shown again by each run: as a tag of the version, which `car-damage status` prints, and as files of its MLflow run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.answers.monitoring import KEY, MONITORING, TRUTH
from car_damage.errors import RegistryError
from car_damage.model.answering import Answering
from car_damage.monitoring import quality, record
from car_damage.monitoring.drift import Drift, drifts, of_features
from car_damage.monitoring.findings import traffic, verdict
from car_damage.monitoring.samples import of_baseline, of_log, of_windows
from car_damage.monitoring.windows import Window, alarm, closed
from car_damage.pipeline import MonitorReport, MonitorRequest
from car_damage.ports import ModelVersion, Platform
from car_damage.stage import HOUR, Progress, Stage
from car_damage.stages.monitoring import careful, entries, old_requests, requests, shown, truth
from car_damage.stages.monitoring.truth import Truth
from car_damage.stages.photos import words
from car_damage.stages.training import cached

OTHER_TESTS = 4
"""Comparisons of a window besides those of `drifts`: features, estimated quality, answers for a person, labels."""

Row = dict[str, Any]


@dataclass(frozen=True)
class _Version:
    """What a window of one version is compared with."""

    version: ModelVersion
    classes: tuple[str, ...]
    baseline: pa.Table | None
    labels: Mapping[str, str]
    """sha256 -> class, of photos that the version has not learned from."""
    features: str
    """Digest of its features; empty: it has none."""
    answering: Answering | None
    """How it makes answers of probabilities; None where its run does not say, or has no baseline."""


def work(request: MonitorRequest, platform: Platform, progress: Progress) -> MonitorReport:
    """Do what the module describes. The report is about the champion.

    Raises:
        CommitConflict: others write the table all the time.
        Unavailable: a folder or a service cannot be reached.
    """
    requests.take_up(platform, progress)
    old_requests.remove(old_requests.found(platform), platform)
    words.take_up_all(platform)
    settings, champion = platform.settings, platform.registry.champion()
    before = _rows(platform)
    if champion is None:
        return MonitorReport(said="no version is live")
    since = entries.since(champion.version, before, platform)
    log = entries.read(since, platform)
    versions = sorted(set(pc.unique(log["model_version"]).drop_null().to_pylist()))
    known, written = truth.known(platform), 0
    for place, number in enumerate(versions):
        progress("monitor", place, len(versions), f"version {number}")
        rows = log.filter(pc.equal(log["model_version"], number))
        written += _look(number, rows, since, before.setdefault(number, []), known, request, platform)
    progress("monitor", len(versions), len(versions), f"{written} new windows")
    of_champion = before.get(champion.version, [])
    if not of_champion:
        need = f"{settings.monitoring.least_rows} photos in {settings.monitoring.hours:g} hours or more"
        said = f"version {champion.version} has no window yet, which needs {need}"
        return MonitorReport(version=champion.version, said=said + entries.without_version(log, platform))
    shown.show(champion, of_champion, platform)
    coverage = careful.coverage(champion, of_champion[-1], log, platform)
    return replace(_report(champion, of_champion, written, log, known, platform), coverage=coverage)


def _rows(platform: Platform) -> dict[int, list[Row]]:
    """Version -> its rows of the table, oldest first, for the endpoint of the settings."""
    rows, _ = platform.tables.read(platform.settings.tables.monitoring, MONITORING.names)
    found: dict[int, list[Row]] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: row["begins"]):
        if row["endpoint"] == platform.settings.serving.endpoint:
            found.setdefault(row["model_version"], []).append(row)
    return found


def _look(  # noqa: PLR0917
    number: int, log: pa.Table, since: datetime, before: list[Row], known: Truth, request: MonitorRequest, platform: Platform
) -> int:
    """Write a row for each window of a version that has ended, append it to `before`, and return how many there are. Rows of earlier
    windows, all of which the log has, get the labels that have arrived since.
    """
    settings, tables = platform.settings, platform.tables
    monitoring = settings.monitoring
    complete = platform.clock.now() - timedelta(seconds=monitoring.wait)
    after = before[-1]["ends"] if before else None
    windows = list(closed(log, after, complete, monitoring.hours, monitoring.least_rows))
    of = _version(number, known, platform, compare=bool(windows))
    if of is None:
        return 0
    changed = [row for row in before[-monitoring.windows :] if row["begins"] >= since and _relabel(row, log, of)]
    if changed:
        schema = pa.schema([MONITORING.field(name) for name in (*KEY, *TRUTH)])
        tables.merge(settings.tables.monitoring, pa.Table.from_pylist(changed, schema=schema), KEY)
    for window in windows:
        before.append(_compared(window, log, before, of, request, platform))
    if windows:
        tables.merge(settings.tables.monitoring, pa.Table.from_pylist(before[-len(windows) :], schema=MONITORING), KEY)
    return len(windows)


def _version(number: int, known: Truth, platform: Platform, *, compare: bool) -> _Version | None:
    """None for a version that was removed. Only a window to `compare` needs all of it."""
    try:
        version = platform.registry.get(number)
    except RegistryError:
        return None
    baseline = truth.baseline(version, platform)
    compare = compare and baseline is not None
    return _Version(
        version,
        truth.classes(baseline, platform),
        baseline,
        labels=known.unseen(truth.learned(version, platform)),
        features=truth.features_digest(version, platform) if compare else "",
        answering=truth.answering(version, platform) if compare else None,
    )


def _compared(window: Window, log: pa.Table, before: list[Row], of: _Version, request: MonitorRequest, platform: Platform) -> Row:  # noqa: PLR0917
    settings, traffic_ = platform.settings, traffic(window.rows)
    baseline = None if of.baseline is None else of_baseline(of.baseline)
    recent = before[-(settings.monitoring.windows - 1) :] if settings.monitoring.windows > 1 else []
    rows = [*(entries.between(log, row["begins"], row["ends"]) for row in recent), window.rows]
    latest = of_windows(rows, of.classes, of.labels, of.answering)
    differences: list[Drift] = []
    if baseline is not None:
        differences += drifts(baseline, latest, of.classes, settings.monitoring)
        differences += _of_features(window, of, settings.monitoring.level / (len(differences) + OTHER_TESTS), platform)
    found = verdict(baseline, latest, traffic_, differences, settings.monitoring)
    spoke = [frozenset(json.loads(row["speaks"])) for row in recent]
    rings = alarm(spoke, found.speaks, settings.monitoring.speaking, settings.monitoring.windows)
    row = record.row(window, traffic_, found, differences, rings) | {
        "endpoint": settings.serving.endpoint,
        "model_version": of.version.version,
        "baseline": baseline is not None,
        "flow_run": request.flow_run,
    }
    return row | {"said": record.in_words(row)}


def _of_features(window: Window, of: _Version, improbable: float, platform: Platform) -> list[Drift]:
    """The drift of the network's own features, where most photos of both sides have them in the table."""
    if not of.features or of.baseline is None:
        return []
    now = cached.features_of(window.rows["sha256"], of.features, platform)
    then = None if now is None else cached.features_of(of.baseline["sha256"], of.features, platform)
    return [] if now is None or then is None else [of_features(then, now, improbable)]


def _relabel(row: Row, log: pa.Table, of: _Version) -> bool:
    """Bring the measured scores of an earlier window up to date. Whether they have changed."""
    rows = entries.between(log, row["begins"], row["ends"])
    labelled = rows.filter(pc.is_in(rows["sha256"], value_set=pa.array(list(of.labels), pa.string())))
    now = record.truth(quality.measured(of_log(labelled, of.classes, of.labels)))
    if all(row[name] == now[name] or _close(row[name], now[name]) for name in TRUTH):
        return False
    row.update(now)
    return True


def _close(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and bool(np.isclose(one, other))


def _report(champion: ModelVersion, rows: list[Row], written: int, log: pa.Table, known: Truth, platform: Platform) -> MonitorReport:  # noqa: PLR0917
    latest = rows[-1]
    recent = rows[-platform.settings.monitoring.windows :]
    asked = entries.between(log, recent[0]["begins"], latest["ends"])
    answered = asked.filter(pc.and_(pc.equal(asked["model_version"], champion.version), pc.is_valid(asked["probabilities"])))
    hashes = set(answered["sha256"].drop_null().to_pylist())
    return MonitorReport(
        version=champion.version,
        run_id=champion.run_id,
        windows=written,
        begins=latest["begins"].isoformat(),
        ends=latest["ends"].isoformat(),
        said=record.in_words(latest) + entries.without_version(log, platform),
        alarm=tuple(json.loads(latest["alarm"])),
        how_much=record.how_much(latest),
        latest=tuple(_summary(row) for row in recent),
        to_learn=known.to_learn(truth.learned(champion, platform)),
        unlabelled=len(hashes - known.labels.keys()),
    )


def _summary(row: Row) -> dict[str, Any]:
    names = ("rows", "answered", "review_share", "estimated_macro_f1", "macro_f1", "labelled", "milliseconds_p95", "error_share")
    when = {"window": record.span(row["begins"], row["ends"])}
    return when | {name: row[name] for name in names} | {"speaks": json.loads(row["speaks"]), "alarm": json.loads(row["alarm"])}


STAGE = Stage("monitor", MonitorRequest, MonitorReport, work, job="monitor", deadline=0.9 * HOUR)
