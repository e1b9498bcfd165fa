"""All places where a photo can leave traces, in the order in which they are looked at: the tables last, because they know its paths."""

from car_damage.data.photos.ledger import PHOTOS, WORDS
from car_damage.ports import Platform
from car_damage.traces.folders import DoubtfulLabels, Drafts, Logs, ModelCopies, NamedFiles, WaitingRows
from car_damage.traces.rows import Claims, Rows, paths_of
from car_damage.traces.sought import Place, SoughtPhoto
from car_damage.traces.trainings import Trainings


def places(platform: Platform) -> tuple[Place, ...]:
    """Those of a platform. Bronze is the last table: it knows the paths in the landing folder."""
    settings, files, tables = platform.settings, platform.files, platform.tables
    ours: list[Place] = [
        Claims(tables, settings.tables.claims),
        Trainings(platform),
        ModelCopies(files, f"{settings.home}/endpoint/models"),
        *(Logs(files, f"{settings.home}/{folder}") for folder in ("endpoint/logs", "logs")),
        WaitingRows(files, settings.monitoring.log_folder, "noted requests"),
        NamedFiles(files, settings.answers.corrections + WORDS, "words of people"),
        NamedFiles(files, settings.answers.corrections + PHOTOS, "photos that people corrected"),
    ]
    if settings.answers.keep_for_review:
        ours.append(NamedFiles(files, settings.answers.keep_for_review, "photos kept for review"))
        ours.append(DoubtfulLabels(files, settings.answers.keep_for_review))
    folders = {settings.monitoring.log_folder, settings.answers.corrections, settings.answers.keep_for_review}
    ours += [Drafts(files, folder, platform.clock) for folder in sorted(filter(None, folders))]
    names = [name for name in settings.tables.all if name != settings.tables.bronze]
    return (*ours, *(Rows(tables, name) for name in (*names, settings.tables.bronze)))


def with_paths(sought: SoughtPhoto, platform: Platform) -> SoughtPhoto:
    """The photo with the paths that tables have beside its hash."""
    return SoughtPhoto(sought.holds, sought.paths | paths_of(platform.tables, platform.settings.tables.all, sought))
