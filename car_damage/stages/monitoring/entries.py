"""The entries of the request log that the latest windows, and those that follow, are made of."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.answers import inference_log
from car_damage.data.answers.inference_log import INFERENCE_LOG
from car_damage.ports import Platform, Where
from car_damage.stages.monitoring import old_requests

BACKLOG = timedelta(days=31)
"""Requests of a version that was never looked at count from then on."""
TOLD = timedelta(days=2)
"""For so long requests are told whose version is not known. They may be in the log only a day after their answers."""

_READ = pa.schema([column for column in INFERENCE_LOG if column.name not in {"label", "probability", "classes"}])
"""What is read of the request log: these columns say nothing that the probabilities do not say."""


def since(champion: int, before: Mapping[int, Sequence[Mapping[str, Any]]], platform: Platform) -> datetime:
    """From when on the request log is needed: the champion's latest windows, and what follows, as far as the log keeps it."""
    latest = before.get(champion, ())[-platform.settings.monitoring.windows :]
    found = latest[0]["begins"] if latest else _since_without_window(champion, before, platform)
    return max(found, old_requests.kept_since(platform) or found)


def read(since: datetime, platform: Platform, columns: Sequence[str] = _READ.names) -> pa.Table:
    """Columns of the endpoint's requests, in the order of time: of several answers to a photo the first one counts."""
    settings = platform.settings
    rows, _ = platform.tables.read(settings.tables.inference_log, columns, where=Where("answered", least=since))
    rows = rows.cast(pa.schema([_READ.field(name) for name in columns])).filter(pc.equal(rows["endpoint"], settings.serving.endpoint))
    return rows.sort_by([(name, "ascending") for name in ("answered", "request_id") if name in columns])


def without_version(log: pa.Table, platform: Platform) -> str:
    """How many requests a model has answered of which nobody knows which one it was, as the end of a sentence."""
    late = log.filter(pc.greater_equal(log["answered"], platform.clock.now() - TOLD))
    unknown = late.filter(pc.and_(pc.is_null(late["model_version"]), pc.is_valid(late["probabilities"])))
    count = inference_log.requests(unknown).num_rows
    return (
        f"; {count:,} answered requests of the last {TOLD.days} days are in no window, because their version is not known" if count else ""
    )


def between(log: pa.Table, begins: datetime, ends: datetime) -> pa.Table:
    """The entries from a moment up to another one, without that."""
    return log.filter(pc.and_(pc.greater_equal(log["answered"], begins), pc.less(log["answered"], ends)))


def _since_without_window(champion: int, before: Mapping[int, Sequence[Mapping[str, Any]]], platform: Platform) -> datetime:
    """The first request of the champion, or of another version that has enough of them for a window. Such a one, if it has windows, is
    compared with the latest ones. Requests without a version are only told.
    """
    monitoring, now = platform.settings.monitoring, platform.clock.now()
    rows, found = read(now - BACKLOG, platform, ["answered", "endpoint", "model_version"]), [now]
    unknown = rows["answered"].filter(pc.is_null(rows["model_version"]))
    if len(unknown):
        found.append(max(pc.min(unknown).as_py(), now - TOLD))
    for number in pc.unique(rows["model_version"].drop_null()).to_pylist():
        latest = before.get(number, ())[-monitoring.windows :]
        times = rows["answered"].filter(pc.equal(rows["model_version"], number))
        new = times.filter(pc.greater_equal(times, latest[-1]["ends"])) if latest else times
        if len(new) >= (1 if number == champion else monitoring.least_rows):
            found.append(latest[0]["begins"] if latest else pc.min(new).as_py())
    return min(found)
