"""The report of a smoke test: JSON for a program, and a page of text for a person. Both are redacted."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from deployments.smoke.calls import Call
from deployments.smoke.redaction import Redaction
from deployments.smoke.removal import LEFT, Removal

_FILE = re.compile(r"/[^/]*\.(jpg|json|whl)$")
"""The name of a file at the end of a path."""
_SHOWN = 500
"""Characters of a call's error. It is cut after the redaction, because a part of a secret would not be found."""
OK, FAILED, NOT_REACHED = "ok", "FAILED", "not reached"


@dataclass(frozen=True)
class Done:
    """What became of a step."""

    name: str
    state: str
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Report:
    """All that is known when everything is over."""

    version: str
    """Of the code."""
    cloud: str
    interrupted: bool
    steps: Sequence[Done]
    calls: Sequence[Call]
    removals: Sequence[Removal]

    @property
    def succeeded(self) -> bool:
        """Whether every step succeeded and nothing was left."""
        return not self.interrupted and all(step.state == OK for step in self.steps) and not self.left

    @property
    def left(self) -> list[Removal]:
        """What could not be removed."""
        return [one for one in self.removals if one.state == LEFT]


def write(report: Report, folder: Path, name: str, redaction: Redaction) -> list[Path]:
    """Write `<name>.json` and `<name>.txt` into the folder, and return their paths."""
    plain = redaction.everywhere(asdict(report))
    for call in plain["calls"]:
        call["error"] = call["error"][:_SHOWN]
    paths = [folder / f"{name}.json", folder / f"{name}.txt"]
    folder.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(json.dumps(plain, indent=1) + "\n")
    paths[1].write_text("\n".join(_page(plain)) + "\n")
    return paths


def _page(report: dict[str, Any]) -> list[str]:
    states = [step["state"] for step in report["steps"]]
    counted = ", ".join(f"{states.count(state)} {state}" for state in (OK, FAILED, NOT_REACHED))
    heads = [f"Smoke test of car-damage {report['version']} in Databricks on {report['cloud']}"]
    heads += [f"{len(states)} steps: {counted}{'; it was interrupted' if report['interrupted'] else ''}", ""]
    steps = [_line(step["state"], f"{step['seconds']:7.1f} s", step["name"], step["error"]) for step in report["steps"]]
    removed = [_line(one["state"], "", one["what"], one["error"]) for one in report["removals"]]
    return [
        *heads,
        *steps,
        "",
        "Calls: number, statuses, median milliseconds",
        *_by_call(report["calls"]),
        "",
        "Removed afterwards",
        *removed,
    ]


def _line(state: str, seconds: str, name: str, error: str) -> str:
    told = f"\n{'':13} {error}" if error else ""
    return f"{state:13} {seconds:9} {name}{told}".rstrip()


def _by_call(calls: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each method and path, with the text of each kind of error."""
    lines = []
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for call in calls:
        groups.setdefault((call["method"], _FILE.sub("/*", call["path"])), []).append(call)
    for (method, path), those in groups.items():
        statuses = ", ".join(str(status or "no answer") for status in dict.fromkeys(call["status"] for call in those))
        middle = median(call["milliseconds"] for call in those)
        lines.append(f"{len(those):4} x {statuses:14} {middle:7.0f} ms  {method} {path}")
        lines += [f"{'':21} {error}" for error in dict.fromkeys(call["error"] for call in those) if error]
    return lines
