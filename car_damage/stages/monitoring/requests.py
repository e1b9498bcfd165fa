"""Takes requests to the endpoint up into the table of the request log: from the files that the local endpoint server has written, and
from the inference table of a workspace's endpoint.

Each row is inserted exactly once, whatever is killed when: its key is the request's id, and a file goes when its rows are in the table.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
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
"""How much older than the latest request of the log a request may be that is still looked for in the inference table, and for how long one
waits for the name of its version. Most are there within an hour of their end."""
AWAY = timedelta(days=30)
"""After a longer time without a request of the endpoint, all of the inference table is looked at, as far as the log keeps requests."""

_ID, _TIME, _ENTITY = "databricks_request_id", "request_time", "served_entity_id"
_NAMED = pa.schema([pa.field(_TIME, ledger.INSTANT), pa.field(_ID, pa.string()), pa.field(_ENTITY, pa.string())])

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
    wanted = wanted.filter(pc.invert(_waits(wanted, versions, platform)))
    for start in range(0, wanted.num_rows, REQUESTS):
        some = wanted.slice(start, REQUESTS)
        taken += _insert([inference_log.table(list(_requests(table, some, versions, platform)), looks=True)], platform)
        progress("requests", start + some.num_rows, wanted.num_rows, table)
    return taken


def _wanted(table: str, platform: Platform) -> pa.Table:
    """The columns `_NAMED` of each request that the log lacks, in the order of time."""
    ours, since = _known(platform)
    there, _ = platform.tables.read(table, _NAMED.names, where=None if since is None else Where(_TIME, least=since))
    there = there.cast(_NAMED).group_by(_NAMED.names).aggregate([])
    new = pc.invert(pc.is_in(there[_ID], value_set=inference_log.requests_of(ours["request_id"])))
    named = pc.and_(pc.is_valid(there[_TIME]), pc.is_valid(there[_ID]))
    return there.filter(pc.and_(named, new)).sort_by([(name, "ascending") for name in (_TIME, _ID)])


def _known(platform: Platform) -> tuple[pa.Table, datetime | None]:
    """The latest rows of the log, and from when on the inference table may have requests that these lack; None: all that it has."""
    endpoint, columns, now = platform.settings.serving.endpoint, ["request_id", "endpoint", "answered"], platform.clock.now()
    for span in (2 * LATE, AWAY):
        rows, _ = platform.tables.read(platform.settings.tables.inference_log, columns, where=Where("answered", least=now - span))
        rows = ledger.conform(rows, INFERENCE_LOG, columns)
        ours = rows.filter(pc.equal(rows["endpoint"], endpoint))
        if ours.num_rows:
            return ours, max(pc.max(ours["answered"]).as_py() - LATE, now - span)
    return ours, old_requests.kept_since(platform)


def _waits(wanted: pa.Table, versions: Mapping[str, int | None], platform: Platform) -> pa.ChunkedArray:
    """Which requests are left for a later run: the system table may name the version of a served entity a while after its answers."""
    known = pc.is_in(wanted[_ENTITY], value_set=pa.array(list(versions), pa.string()))
    young = pc.greater(wanted[_TIME], platform.clock.now() - LATE)
    waits = pc.and_(young, pc.and_(pc.is_valid(wanted[_ENTITY]), pc.invert(known)))
    if count := pc.sum(waits).as_py():
        _log.warning("%d requests wait until %s has their version, for %s at most", count, payload.SERVED_ENTITIES, LATE)
    return waits


def _requests(table: str, wanted: pa.Table, versions: Mapping[str, int | None], platform: Platform) -> Iterator[Request]:
    """Without the bodies of their requests, except of those that were refused: only those say which photos they had."""
    times, ids = wanted[_TIME].to_pylist(), wanted[_ID]
    rows, _ = platform.tables.read(table, payload.COLUMNS, where=Where(_TIME, least=times[0], most=times[-1]))
    found = {row[_ID]: row for row in rows.filter(pc.is_in(rows[_ID].cast(pa.string()), value_set=ids)).to_pylist()}
    refused = [request_id for request_id, row in found.items() if row["status_code"] == inference_log.REFUSED]
    for row in found.values():
        if row["status_code"] != inference_log.REFUSED:
            yield payload.request(row, platform.settings.serving.endpoint, versions)
    for start in range(0, len(refused), BODIES):
        bodies = Where(_ID, among=refused[start : start + BODIES])
        for row in platform.tables.read(table, [_ID, "request"], where=bodies)[0].to_pylist():
            answered = found[row[_ID]]
            yield payload.request(answered, platform.settings.serving.endpoint, versions, row["request"])


def _versions(platform: Platform) -> dict[str, int | None]:
    """Served entity -> version. Without the right to read the system table the versions stay unknown."""
    try:
        rows, _ = platform.tables.read(payload.SERVED_ENTITIES, payload.ENTITY)
    except CarDamageError as error:
        _log.warning("the request log does not say which version answered: %s", error)
        return {}
    return payload.versions(rows.to_pylist(), platform.settings.tracking.model)
