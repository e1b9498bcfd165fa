"""Asks for a new verdict on photos of which a run has found that they are no longer what was validated."""

import logging
from collections.abc import Collection, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.people.reviews import unnamed
from car_damage.data.photos import ledger
from car_damage.errors import CarDamageError, PhotoChanged, Unavailable
from car_damage.ports import Platform
from car_damage.settings import Landing

_SHOWN = 10
"""Photos that the log names."""

_log = logging.getLogger(__name__)


def leave_out(left_out: Mapping[str, CarDamageError], platform: Platform) -> None:
    """Log which photos a run leaves out, and mark those that have changed, so that the next run gives them a verdict.

    Args:
        left_out: path -> why: PhotoChanged, or Unavailable.
        platform: its bronze table is written.
    """
    for _, error in sorted(left_out.items())[:_SHOWN]:
        _log.warning("a photo is left out of this run: %s", unnamed(str(error), platform.settings.answers.corrections))
    if len(left_out) > _SHOWN:
        _log.warning("%d more photos are left out of this run", len(left_out) - _SHOWN)
    _mark({path for path, error in left_out.items() if isinstance(error, PhotoChanged)}, platform)


def refuse_too_many(left_out: Mapping[str, CarDamageError], photos: int, landing: Landing) -> None:
    """Stop when more of the photos are left out than may vanish between two runs.

    Raises:
        Unavailable: so many cannot be read, and a later try may succeed.
        PhotoChanged: all of them have changed or are gone.
    """
    if len(left_out) <= landing.max_vanished_share * photos:
        return
    error = next((error for error in left_out.values() if isinstance(error, Unavailable)), next(iter(left_out.values())))
    share = f"landing.max_vanished_share allows {landing.max_vanished_share:.0%}"
    raise type(error)(
        f"{len(left_out):,} of the {photos:,} photos cannot be used, and {share}; {_elsewhere(left_out, landing)}one of them: {error}"
    ) from error


def _elsewhere(left_out: Mapping[str, CarDamageError], landing: Landing) -> str:
    others = pc.sum(pc.invert(ledger.below(landing.folder, pa.chunked_array([list(left_out)], pa.string())))).as_py()
    if not others:
        return ""
    return f"{others:,} of them are in other folders than {landing.folder}: if these are gone, run again with retire_other_folders; "


def _mark(paths: Collection[str], platform: Platform) -> None:
    if not paths:
        return
    tables, bronze, columns = platform.tables, platform.settings.tables.bronze, [*ledger.KEY, "status"]
    rows = ledger.conform(tables.read(bronze, columns)[0], ledger.BRONZE, columns)
    present = rows.filter(pc.is_in(rows["status"], value_set=ledger.PRESENT))
    present = present.filter(ledger.looked_at(platform.settings, present["path"]))  # others get no verdict
    marked = present.filter(pc.is_in(present["path"], value_set=pa.array(sorted(paths)))).select(list(ledger.KEY))
    if marked.num_rows:
        tables.merge(bronze, marked.append_column("judged_under", pa.nulls(marked.num_rows, pa.string())), ledger.KEY)
