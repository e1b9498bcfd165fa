"""Rows of the request log that are older than the settings keep: which these are, and their removal."""

from datetime import datetime, timedelta

import pyarrow as pa

from car_damage.data.answers.inference_log import INFERENCE_LOG, KEY
from car_damage.ports import Platform, Where


def kept_since(platform: Platform) -> datetime | None:
    """When the oldest requests ended that the table keeps. None: it keeps all."""
    days = platform.settings.monitoring.keep_days
    return platform.clock.now() - timedelta(days=days) if days else None


def found(platform: Platform) -> pa.Table:
    """The keys of the rows that are too old."""
    before = kept_since(platform)
    if before is None:
        return pa.table({name: pa.array([], pa.string()) for name in KEY})
    rows, _ = platform.tables.read(platform.settings.tables.inference_log, KEY, where=Where("answered", most=before))
    return rows


def remove(keys: pa.Table, platform: Platform) -> None:
    """Remove the rows with these keys."""
    if keys.num_rows:
        platform.tables.merge(platform.settings.tables.inference_log, INFERENCE_LOG.empty_table(), KEY, remove=keys)
