"""Takes requests to the endpoint up into the table of the request log: from the files that the local endpoint server has written, and
from the inference table of a workspace's endpoint.

Each row is inserted exactly once, whatever is killed when: its key is the request's id, and a file goes when its rows are in the table.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.answers import inference_log, payload
from car_damage.data.answers.inference_log import INFERENCE_LOG, KEY, Request
from car_damage.data.forgotten import marked
from car_damage.data.listing import listed
from car_damage.data.photos import ledger
from car_damage.errors import CarDamageError, FileMissing, Unavailable
from car_damage.ports import Platform, Where
from car_damage.stage import Progress
from car_damage.stages.monitoring import old_requests
from car_damage.traces.marks import marks

FILES = 500
"""Files in one commit."""
REQUESTS = 10_000
"""Requests of an inference table that are read at once."""
BODIES = 16
"""Bodies of refused requests that are read at once: each may have a mebibyte and more."""
LATE = timedelta(days=1)
"""How much older than the latest request of the log a request may be that is still looked for in the inference table. Most are there
within an hour of their end."""
AWAY = timedelta(days=30)
"""After a longer time without a request of the endpoint, all of the inference table is looked at, as far as the log keeps requests."""

_TIME_AND_ID = pa.schema([pa.field("request_time", ledger.INSTANT), pa.field("databricks_request_id", pa.string())])

_log = logging.getLogger(__name__)


def take_up(platform: Platform, progress: Progress) -> int:
    """Insert what the table lacks. A file that is none of requests, or cannot be read, is logged and tried again by the next call.

    Args:
        platform: its files, table of the request log and inference table.
        progress: told the files, and then the requests of the inference table.

    Returns:
        How many rows it has read and the table has; some may have been there before, after a kill.

    Raises:
        CommitConflict: others write the table all the time.
        Unavailable: the folder cannot be listed, or a table cannot be reached.
    """
    return _from_files(platform, progress) + _from_endpoint(platform, progress)


def _from_files(platform: Platform, progress: Progress) -> int:
    paths, taken = _listed(platform), 0
    for start in range(0, len(paths), FILES):
        found = {path: rows for path in paths[start : start + FILES] if (rows := _read(path, platform)) is not None}
        taken += _insert(list(found.values()), platform)
        for path in found:
            platform.files.remove(path)
        progress("requests", min(start + FILES, len(paths)), len(paths), "files")
    return taken


def _listed(platform: Platform) -> list[str]:
    """The files in the order of time, which their names begin with."""
    folder = platform.settings.monitoring.log_folder
    return sorted(file.path for file in listed(platform.files, folder) if file.path.endswith(".parquet"))


def _read(path: str, platform: Platform) -> pa.Table | None:
    try:
        return inference_log.from_file(platform.files.read(path))
    except FileMissing:  # another run has taken it
        return None
    except (ValueError, Unavailable) as error:
        _log.warning("%s is not taken up as a file of requests: %s", path, error)
        return None


def _insert(tables: Sequence[pa.Table], platform: Platform) -> int:
    rows = inference_log.once(pa.concat_tables([INFERENCE_LOG.empty_table(), *tables]), "request_id")
    count: int = rows.num_rows
    if count:
        theirs = marked(rows["sha256"], marks(platform))  # a photo that was forgotten is not named again
        rows = rows.set_column(rows.schema.get_field_index("sha256"), rows.schema.field("sha256"), pc.if_else(theirs, None, rows["sha256"]))
        rest = [name for name in INFERENCE_LOG.names if name not in KEY]
        platform.tables.merge(platform.settings.tables.inference_log, rows, KEY, once=rest)
    return count


def _from_endpoint(platform: Platform, progress: Progress) -> int:
    prefix = platform.settings.serving.inference_table
    if prefix is None:
        return 0
    table, taken = f"{prefix}_payload", 0
    wanted = _wanted(table, platform)
    versions = _versions(platform) if wanted.num_rows else {}
    for start in range(0, wanted.num_rows, REQUESTS):
        some = wanted.slice(start, REQUESTS)
        taken += _insert([inference_log.table(list(_requests(table, some, versions, platform)))], platform)
        progress("requests", start + some.num_rows, wanted.num_rows, table)
    return taken


def _wanted(table: str, platform: Platform) -> pa.Table:
    """request_time and databricks_request_id of each request that the log lacks, in the order of time."""
    log, endpoint = platform.settings.tables.inference_log, platform.settings.serving.endpoint
    columns = ["request_id", "endpoint", "answered"]
    known, _ = platform.tables.read(log, columns, where=Where("answered", least=platform.clock.now() - AWAY))
    ours = ledger.conform(known, INFERENCE_LOG, columns)
    ours = ours.filter(pc.equal(ours["endpoint"], endpoint))
    since: datetime | None = pc.max(ours["answered"]).as_py() - LATE if ours.num_rows else old_requests.kept_since(platform)
    there, _ = platform.tables.read(table, _TIME_AND_ID.names, where=None if since is None else Where("request_time", least=since))
    there = there.cast(_TIME_AND_ID).drop_null().group_by(_TIME_AND_ID.names).aggregate([])
    new = pc.invert(pc.is_in(there["databricks_request_id"], value_set=inference_log.requests_of(ours["request_id"])))
    return there.filter(new).sort_by([(name, "ascending") for name in _TIME_AND_ID.names])


def _requests(table: str, wanted: pa.Table, versions: dict[str, int], platform: Platform) -> Iterator[Request]:
    """Without the bodies of their requests, except of those that were refused: only those say which photos they had."""
    times, ids = wanted["request_time"].to_pylist(), set(wanted["databricks_request_id"].to_pylist())
    rows, _ = platform.tables.read(table, payload.COLUMNS, where=Where("request_time", least=times[0], most=times[-1]))
    found = {row["databricks_request_id"]: row for row in rows.to_pylist() if row["databricks_request_id"] in ids}
    refused = [request_id for request_id, row in found.items() if row["status_code"] == inference_log.REFUSED]
    for row in found.values():
        if row["status_code"] != inference_log.REFUSED:
            yield payload.request(row, platform.settings.serving.endpoint, versions)
    for start in range(0, len(refused), BODIES):
        bodies = Where("databricks_request_id", among=refused[start : start + BODIES])
        for row in platform.tables.read(table, ["databricks_request_id", "request"], where=bodies)[0].to_pylist():
            answered = found[row["databricks_request_id"]]
            yield payload.request(answered, platform.settings.serving.endpoint, versions, row["request"])


def _versions(platform: Platform) -> dict[str, int]:
    """Served entity -> version. Without the right to read the system table the versions stay unknown."""
    try:
        rows, _ = platform.tables.read(payload.SERVED_ENTITIES, payload.ENTITY)
    except CarDamageError as error:
        _log.warning("the request log does not say which version answered: %s", error)
        return {}
    return payload.versions(rows.to_pylist(), platform.settings.tracking.model)
