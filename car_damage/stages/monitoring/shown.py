"""What a version's tag and the files of its MLflow run show of its windows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from car_damage.errors import RegistryError
from car_damage.model.quality.course import Point, course
from car_damage.model.run_files import MONITORING_FILES
from car_damage.monitoring import record
from car_damage.ports import TAG_LIMIT, ModelVersion, Platform
from car_damage.promotion.tags import MONITORED
from car_damage.showing import if_possible

SHOWN = 60
"""The latest windows that a plot and the files show."""

Row = Mapping[str, Any]


def show(champion: ModelVersion, rows: Sequence[Row], platform: Platform) -> None:
    """The tag and the files, unless they are as they should be. A run may have been killed before it wrote them."""
    said, (plot, windows) = record.in_words(rows[-1])[:TAG_LIMIT], MONITORING_FILES
    listed = json.dumps(rows[-SHOWN:], default=str, indent=1, sort_keys=True).encode()
    if champion.tags.get(MONITORED) == said and _file(champion, windows, platform) == listed:
        return
    with if_possible(f"what is said of version {champion.version}"):
        with if_possible("the course of the windows"):
            picture = course([_point(row) for row in rows[-SHOWN:]], f"Version {champion.version} at {rows[-1]['endpoint']}")
            platform.tracking.attach(champion.run_id, {plot: picture})
        platform.tracking.attach(champion.run_id, {windows: listed})
        platform.registry.tag(champion.version, {MONITORED: said})  # last: it says that the files are there


def _file(of: ModelVersion, name: str, platform: Platform) -> bytes | None:
    try:
        return platform.tracking.fetch(of.run_id, name)
    except RegistryError:
        return None


def _point(row: Row) -> Point:
    findings = json.loads(row["findings"])
    over = {one["name"]: one["value"] / one["limit"] for one in findings if one["limit"] > 0 and one["name"] in json.loads(row["speaks"])}
    spread = None if row["macro_f1"] is None else (row["macro_f1"], row["macro_f1_low"], row["macro_f1_high"])
    return Point(row["ends"], row["estimated_macro_f1"], spread, row["review_share"], over, bool(json.loads(row["alarm"])))
