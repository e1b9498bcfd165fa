"""Stage forget: removes everything that is known of a photo, and keeps a mark by which it is never taken up again.

First the mark is written: whatever begins later knows it. What a place has is noted in the photo's row before it is removed, so the call
after a killed one still tells all. Afterwards the tables lose their earlier versions. It runs in the job that trains, which can
reach tables, files and trainings.
"""

import hashlib
from collections.abc import Sequence

from car_damage.data import forgotten
from car_damage.data.forgotten import FORGOTTEN, Forgotten, mark_of, together
from car_damage.errors import Unavailable
from car_damage.pipeline import ForgetReport, ForgetRequest, Trace
from car_damage.ports import Platform
from car_damage.stage import HOUR, Progress, Stage
from car_damage.traces import certificate
from car_damage.traces.places import places, with_paths
from car_damage.traces.sought import Place, Sought
from car_damage.traces.trainings import Trainings


def work(request: ForgetRequest, platform: Platform, progress: Progress) -> ForgetReport:
    """Do what the module describes."""
    names, tables = platform.settings.tables, platform.tables
    noted = _noted(request, platform)
    if request.note_only:
        return ForgetReport(noted.mark, noted.by, noted.noted.isoformat(), noted.found, ())
    sought = with_paths(Sought(lambda sha256: mark_of(sha256) == request.mark), platform)
    noted = _keep(noted, _elsewhere(sought, platform), platform)
    everywhere = places(platform)
    for done, place in enumerate(everywhere):
        progress("forget", done, len(everywhere) + len(names.all))
        noted = _remove(place, sought, noted, platform)
    for done, table in enumerate(names.all, len(everywhere)):
        progress("forget", done, len(everywhere) + len(names.all), table)
        if stays := tables.purge(table, sought.holds):
            noted = _keep(noted, [Trace(f"table {table}", "its earlier versions", stays=stays)], platform)
    files = tuple(trace.place for trace in noted.found if trace.what == _FILE)
    underway = Trainings(platform).underway()
    report = ForgetReport(noted.mark, noted.by, noted.noted.isoformat(), noted.found, files, underway)
    documents = (certificate.document(report), certificate.page(report))
    platform.archive.keep(dict(zip(certificate.names(report), documents, strict=True)))
    return report


_FILE = "the file, which is not ours"


def _noted(request: ForgetRequest, platform: Platform) -> Forgotten:
    """The photo's row, which is written first."""
    table = platform.settings.tables.forgotten
    rows, _ = platform.tables.read(table, FORGOTTEN.names)
    if (found := forgotten.photo_of(rows, request.mark)) is not None:
        return found
    photo = Forgotten(request.mark, request.by, platform.clock.now())
    platform.tables.merge(table, forgotten.row(photo), forgotten.KEY)
    return photo


def _keep(photo: Forgotten, found: Sequence[Trace], platform: Platform) -> Forgotten:
    """Note what was found."""
    whole = Forgotten(photo.mark, photo.by, photo.noted, together(photo.found, found))
    if whole != photo:
        platform.tables.merge(platform.settings.tables.forgotten, forgotten.row(whole), forgotten.KEY)
    return whole


def _remove(place: Place, sought: Sought, photo: Forgotten, platform: Platform) -> Forgotten:
    found = place.find(sought)
    if found:
        photo = _keep(photo, found, platform)
        place.remove(sought)
    return photo


def _elsewhere(sought: Sought, platform: Platform) -> list[Trace]:
    """The files that are not ours to remove, of those that the tables name."""
    ours = platform.settings.answers.corrections
    there = [path for path in sorted(sought.paths) if not path.startswith(ours) and _has(platform, path, sought)]
    return [Trace(path, _FILE, stays="whoever owns the folder removes it") for path in there]


def _has(platform: Platform, path: str, sought: Sought) -> bool:
    try:
        return sought.holds(hashlib.sha256(platform.files.read(path)).hexdigest())
    except Unavailable:  # it is gone, or nobody can tell
        return False


STAGE: Stage[ForgetRequest, ForgetReport] = Stage("forget", ForgetRequest, ForgetReport, work, job="train", deadline=3.5 * HOUR)
