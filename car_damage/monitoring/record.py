"""A window's verdict as a row of the table of monitoring, and in words."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from car_damage.data.answers.monitoring import TRUTH
from car_damage.monitoring.drift import Drift
from car_damage.monitoring.findings import OF_THE_ENDPOINT, SLOW, Finding, Traffic, Verdict
from car_damage.monitoring.quality import Measured
from car_damage.monitoring.windows import Window

_AS_SHARES = OF_THE_ENDPOINT - {SLOW} | {"answers for a person"}
_DAY = "%Y-%m-%d"
_MINUTE = "%Y-%m-%d %H:%M"


def row(window: Window, of: Traffic, verdict: Verdict, drifts: Iterable[Drift], alarm: Collection[str]) -> dict[str, Any]:
    """The columns of `MONITORING`, but for those that say whose window it is and who looked at it."""
    estimate, times = verdict.estimated, of.milliseconds or (None, None, None)
    found: dict[str, Any] = {
        "begins": window.begins,
        "ends": window.ends,
        "rows": of.rows,
        "answered": of.answered,
        "review_share": of.review,
        "refused_share": of.refused,
        "error_share": of.errors,
        "throttled_share": of.throttled,
        **dict(zip(("milliseconds_p50", "milliseconds_p95", "milliseconds_p99"), times, strict=True)),
        "estimated_accuracy": None if estimate is None else estimate.accuracy,
        "estimated_macro_f1": None if estimate is None else estimate.macro_f1,
        "findings": json.dumps([asdict(finding) for finding in verdict.findings]),
        "drifts": json.dumps([asdict(drift) for drift in drifts]),
        "speaks": json.dumps(sorted(verdict.speaks)),
        "alarm": json.dumps(sorted(alarm)),
    }
    return found | truth(verdict.measured)


def truth(measured: Measured | None) -> dict[str, Any]:
    """The columns TRUTH."""
    if measured is None:
        return {"labelled": 0, **dict.fromkeys(TRUTH[1:])}
    ends = (measured.accuracy, *measured.accuracy_interval, measured.macro_f1, *measured.macro_f1_interval)
    return dict(zip(TRUTH, (measured.photos, *ends), strict=True))


def in_words(of: Mapping[str, Any]) -> str:
    """A row of the table in one sentence of at most a few hundred characters."""
    parts = [f"{span(of['begins'], of['ends'])}, {of['rows']:,} photos"]
    if of["estimated_macro_f1"] is not None:
        parts.append(f"estimated macro-F1 {of['estimated_macro_f1']:.2f}")
    if of["macro_f1"] is not None:
        parts.append(f"{of['macro_f1']:.2f} on {of['labelled']:,} labelled")
    alarm, speaks = json.loads(of["alarm"]), json.loads(of["speaks"])
    if alarm:
        parts.append(f"worse: {', '.join(alarm)}")
    elif speaks:
        parts.append(f"unusual, not yet often enough: {', '.join(speaks)}")
    else:
        parts.append("nothing unusual" if of["baseline"] else "nothing unusual, without a baseline to compare with")
    return "; ".join(parts)


def how_much(of: Mapping[str, Any]) -> str:
    """What rings in a row of the table, each with how much."""
    alarm = set(json.loads(of["alarm"]))
    return ", ".join(in_numbers(Finding(**one)) for one in json.loads(of["findings"]) if one["name"] in alarm)


def in_numbers(finding: Finding) -> str:
    """A finding with its size."""
    if finding.name == SLOW:
        return f"{finding.name} {finding.value:.0f} ms"
    if finding.name in _AS_SHARES:
        return f"{finding.name} {finding.value:+.0%}" if finding.p is not None else f"{finding.name} {finding.value:.0%}"
    return f"{finding.name} {finding.value:.2f}"


def span(begins: datetime, ends: datetime) -> str:
    """A window's time: one day, or from when to when, in UTC."""
    if (begins.hour, begins.minute, (ends - begins).total_seconds()) == (0, 0, 86_400.0):
        return f"{begins:{_DAY}}"
    return f"{begins:{_MINUTE}} to {ends:{_MINUTE}}"
