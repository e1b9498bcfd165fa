"""Makes the labeller of the settings, and reads its table of labels."""

from collections.abc import Mapping

from car_damage.data.photos.labels import Labeller, parse_table, path_in_table
from car_damage.errors import SettingsError
from car_damage.machine import absolute
from car_damage.ports import Platform


def labeller(platform: Platform) -> Labeller:
    """A labeller by folder, by file name, or by a table, which is a .csv file or a Delta table's folder.

    Raises:
        SettingsError: the table is not there, or contradicts itself.
        Unavailable: the CSV file cannot be read.
    """
    settings = platform.settings
    table = None if settings.labels.table is None else _table(platform, absolute(settings.labels.table))
    return Labeller(settings.labels, absolute(settings.landing.folder), table)


def _table(platform: Platform, where: str) -> Mapping[str, str]:
    if where.lower().endswith(".csv"):
        return parse_table(platform.files.read(where))
    rows, version = platform.tables.read(where, ["path", "label"])
    if version < 0:
        raise SettingsError(f"labels.table: {where} is neither a file ending with .csv nor the folder of a Delta table")
    labels: dict[str, str] = {}
    for path, word in zip(rows["path"].to_pylist(), rows["label"].to_pylist(), strict=True):
        if path is None or word is None:
            continue
        if labels.setdefault(found := path_in_table(path), word) != word:
            raise SettingsError(f"the table of labels {where} lists {path} as {labels[found]} and as {word}: keep one")
    return labels
