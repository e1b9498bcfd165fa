"""Stage forget: removes everything that is known of a photo, and keeps a mark by which it is never taken up again.

First the mark is written: whatever begins later knows it. What a place has is noted in the photo's row before it is removed, so the call
after a killed one still tells all. Afterwards the tables lose their earlier versions. It runs in the job that trains, which can
reach tables, files and trainings.
"""

import hashlib
from collections.abc import Collection, Sequence

from car_damage.data import forgotten
from car_damage.data.forgotten import FILE, FORGOTTEN, Forgotten, mark_of
from car_damage.errors import FileMissing, Unavailable
from car_damage.pipeline import ForgetReport, ForgetRequest, Trace
from car_damage.ports import Platform
from car_damage.stage import HOUR, Progress, Stage
from car_damage.traces import certificate
from car_damage.traces.places import places, with_paths
from car_damage.traces.sought import Place, SoughtPhoto
from car_damage.traces.trainings import Trainings


def work(request: ForgetRequest, platform: Platform, progress: Progress) -> ForgetReport:
    """Do what the module describes.

    Raises:
        CommitConflict: others write one of the tables all the time.
        Unavailable: a place cannot be looked at. The next call goes on.
    """
    names, tables = platform.settings.tables, platform.tables
    noted = _noted(request, platform)
    sought = with_paths(SoughtPhoto(lambda sha256: mark_of(sha256) == request.mark), platform)
    if request.note_only:
        return _report(noted, sought, platform)
    there = _elsewhere(sought, noted, platform)
    again = noted.looked_at_again({trace.place for trace in there})
    noted = _write(again.with_begun([*there, *request.elsewhere]), noted, platform)
    everywhere = places(platform)
    for done, place in enumerate(everywhere):
        progress("forget", done, len(everywhere) + len(names.all))
        noted = _remove(place, sought, noted, platform)
    for done, table in enumerate(names.all, len(everywhere)):
        progress("forget", done, len(everywhere) + len(names.all), table)
        if stays := tables.purge(table, sought.holds):
            noted = _keep(noted, [Trace(f"table {table}", "its earlier versions", stays=stays, again=True)], platform)
    report = _report(_write(noted.at_its_end(), noted, platform), sought, platform)
    documents = (certificate.document(report), certificate.page(report))
    platform.archive.keep(dict(zip(certificate.names(report), documents, strict=True)))
    return report


def _report(photo: Forgotten, sought: SoughtPhoto, platform: Platform) -> ForgetReport:
    files = tuple(trace.place for trace in photo.found if trace.what == FILE and trace.stays)
    underway = Trainings(platform).underway()
    return ForgetReport(
        photo.mark, photo.by, photo.noted.isoformat(), photo.found, files, underway, tuple(_of_others(sought.paths, platform))
    )


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
    return _write(photo.with_begun(found), photo, platform)


def _write(photo: Forgotten, before: Forgotten, platform: Platform) -> Forgotten:
    if photo != before:
        platform.tables.merge(platform.settings.tables.forgotten, forgotten.row(photo), forgotten.KEY)
    return photo


def _remove(place: Place, sought: SoughtPhoto, photo: Forgotten, platform: Platform) -> Forgotten:
    found = place.find(sought)
    if found:
        photo = _keep(photo, found, platform)
        place.remove(sought)
    return photo


def _elsewhere(sought: SoughtPhoto, photo: Forgotten, platform: Platform) -> list[Trace]:
    """The files that are not ours to remove, of those that the tables name, or that were noted before."""
    paths = sought.paths | {trace.place for trace in photo.found if trace.what == FILE}
    looked_at = ((path, _stays(platform, path, sought)) for path in _of_others(paths, platform))
    return [Trace(path, FILE, stays=stays, again=True) for path, stays in looked_at if stays]


def _of_others(paths: Collection[str], platform: Platform) -> list[str]:
    """The paths outside of the folder of corrections, where a file's name is its hash."""
    return sorted(path for path in paths if not path.startswith(platform.settings.answers.corrections))


def _stays(platform: Platform, path: str, sought: SoughtPhoto) -> str:
    """What whoever owns the folder does about a file; empty if the photo is not there any more."""
    try:
        is_it = sought.holds(hashlib.sha256(platform.files.read(path)).hexdigest())
    except FileMissing:
        return ""
    except Unavailable:
        return "it cannot be read: whoever owns the folder looks, and removes it if it is the photo"
    return "whoever owns the folder removes it" if is_it else ""


STAGE: Stage[ForgetRequest, ForgetReport] = Stage("forget", ForgetRequest, ForgetReport, work, job="train", deadline=3.5 * HOUR)
