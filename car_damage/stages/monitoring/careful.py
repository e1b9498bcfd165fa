"""Decides with which coverage a version answers that is worse than it was, and keeps it as a tag of the version: until another one is live,
whoever serves it finds it there.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.monitoring.coverage import needed
from car_damage.monitoring.findings import OF_THE_ENDPOINT
from car_damage.monitoring.samples import of_log
from car_damage.moves import DONE
from car_damage.ports import ModelVersion, Platform
from car_damage.promotion.tags import COVERAGE
from car_damage.showing import if_possible
from car_damage.stages.monitoring import entries, truth


def coverage(champion: ModelVersion, latest: Mapping[str, Any], log: pa.Table, platform: Platform) -> float | None:
    """The coverage of the champion's answers; None: its own, as when nothing was ever raised.

    It is decided when the alarm begins, and stays until another version is live.

    Args:
        champion: whose tag is read, and set.
        latest: the row of its latest window.
        log: has the rows of this window.
        platform: its settings say whether anything is raised at all.
    """
    said = champion.tags.get(COVERAGE)
    worse = set(json.loads(latest["alarm"])) - OF_THE_ENDPOINT
    if said or not worse or not platform.settings.monitoring.more_reviews:
        return float(said) if said else None
    live_since = _live_since(champion.version, platform)
    if live_since is not None and latest["ends"] <= live_since:
        return None  # it was worse when it was live before, and a person has taken it live again
    window = entries.between(log, latest["begins"], latest["ends"])
    window = window.filter(pc.equal(window["model_version"], champion.version))
    sample = of_log(window, truth.classes(truth.baseline(champion, platform), platform), {})
    found, answering = None, truth.answering(champion, platform)
    if answering is not None:
        with if_possible(f"the coverage that version {champion.version} needs"):
            found = needed(answering, sample.probabilities)
            platform.registry.tag(champion.version, {COVERAGE: f"{found:g}"})
    return found


def _live_since(version: int, platform: Platform) -> datetime | None:
    """When it went live last; None if the history does not say."""
    ended = [move.ended for move in platform.history.moves(DONE) if move.intention.version == version and move.ended is not None]
    return max(ended, default=None)
