"""Labels photos by their folder, their name or a table, according to the settings.

Pure: paths in, labels out. A photo whose label is unclear gets a reason, never a guess.
"""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from car_damage.errors import SettingsError
from car_damage.photo.reasons import NO_LABEL, UNKNOWN_LABEL
from car_damage.settings import Labels


@dataclass(frozen=True)
class LabelResult:
    """The label of a photo, or the reason why it has none."""

    label: str | None
    """The class."""
    reason: str | None
    """`no label` or `unknown label`; None if there is a label."""


class Labeller:
    """Finds the labels of photos.

    Args:
        settings: the source of labels, the classes and their aliases. Case is ignored, and so is how a file system writes accents.
        landing_folder: the folder that contains all photos.
        table: for `source = "table"`: path relative to the landing folder -> word. See `parse_table`.

    Raises:
        SettingsError: the source is a table and `table` is None, or gives two labels to paths that differ only in how accents are written.
    """

    def __init__(self, settings: Labels, landing_folder: str, table: Mapping[str, str] | None = None) -> None:
        if settings.source == "table" and table is None:
            raise SettingsError('labels.source is "table", but no table of labels was read: set labels.table to its CSV file')
        self._source = settings.source
        self._landing = landing_folder.rstrip("/") + "/"
        self._table: dict[str, str] = {}
        for path, word in (table or {}).items():
            if self._table.setdefault(_composed(path), word) != word:
                raise SettingsError(f"the table of labels lists {path} twice, written with other accents, and with two labels: keep one")
        words = dict(settings.aliases) | {name: name for name in settings.classes}
        self._known = {_composed(word).casefold(): LabelResult(name, None) for word, name in words.items()}

    def label(self, path: str) -> LabelResult:
        """The label of the photo at a full path."""
        return self.labels([path])[0]

    def labels(self, paths: Sequence[str]) -> list[LabelResult]:
        """The label of each photo, in the same order. The label of a folder is looked up once."""
        if self._source == "folder":
            folders: dict[str, LabelResult] = {}
            return [folders.get(folder) or folders.setdefault(folder, self._by_folder(folder)) for folder in map(_folder, paths)]
        if self._source == "file_name":
            return [self._by_name(path) for path in paths]
        return [self._by_word(self._table.get(_composed(self._relative(path)))) for path in paths]

    def sources(self, paths: Sequence[str]) -> list[str | None]:
        """For each photo the first folder below the one that gives its label, in one spelling; None where there is none."""
        folders: dict[str, str | None] = {}
        for folder in map(_folder, paths):
            if folder not in folders:
                folders[folder] = self._below_the_label(folder)
        return [folders[_folder(path)] for path in paths]

    def _below_the_label(self, folder: str) -> str | None:
        names = self._relative(folder).rstrip("/").split("/")
        at = next((place for place in reversed(range(len(names))) if self._by_word(names[place]).label is not None), len(names))
        return _composed(names[at + 1]).casefold() if at + 1 < len(names) else None

    def _relative(self, path: str) -> str:
        return path.removeprefix(self._landing)

    def _by_folder(self, folder: str) -> LabelResult:
        """The label by the nearest folder above the photo whose name is a class or an alias. The landing folder itself is no label."""
        results = [self._by_word(name) for name in reversed(self._relative(folder).rstrip("/").split("/"))]
        return next((result for result in results if result.label is not None), results[0])

    def _by_name(self, path: str) -> LabelResult:
        """The label by the first word of the name that is a class or an alias. A word consists of letters only."""
        name = path.rpartition("/")[2].rpartition(".")[0] or path.rpartition("/")[2]
        words = [word.casefold() for word in re.findall(r"[^\W\d_]+", _composed(name))]
        return next((self._known[word] for word in words if word in self._known), LabelResult(None, UNKNOWN_LABEL if words else NO_LABEL))

    def _by_word(self, word: str | None) -> LabelResult:
        if word is None or not word.strip():
            return LabelResult(None, NO_LABEL)
        return self._known.get(_composed(word).strip().casefold(), LabelResult(None, UNKNOWN_LABEL))


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]


def _composed(text: str) -> str:
    """One way to write accents: some file systems write é as one character, and macOS as two (Unicode Standard Annex 15)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def path_in_table(written: str) -> str:
    r"""A path of a table of labels, which people may write with \\ or ./ and with spaces around it, as it is looked up."""
    return written.strip().replace("\\", "/").removeprefix("./")


def parse_table(csv_bytes: bytes) -> dict[str, str]:
    r"""Parse a table of labels: a CSV file in UTF-8 or UTF-16, with commas, semicolons or tabs as spreadsheets write it, with the columns
    path (relative to the landing folder, with / or \) and label.

    Returns:
        Path -> label as written in the file. Other columns are ignored.

    Raises:
        SettingsError: not Unicode or not CSV, a column is missing, a row is incomplete, or a path has two labels.
    """
    encoding = "utf-16" if csv_bytes.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = csv_bytes.decode(encoding)
        separator = next((mark for mark in "\t;" if mark in text.partition("\n")[0]), ",")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
        if missing := [column for column in ("path", "label") if column not in (rows.fieldnames or [])]:
            found = ", ".join(rows.fieldnames or []) or "none"
            raise SettingsError(f"the table of labels has no column {' and no column '.join(missing)} (found: {found})")
        table: dict[str, str] = {}
        for row in rows:
            path, word = row["path"], row["label"]
            if path is None or word is None:
                raise SettingsError(f"line {rows.line_num} of the table of labels is incomplete")
            path = path_in_table(path)
            if table.setdefault(path, word) != word:
                raise SettingsError(f"the table of labels lists {path} as {table[path]} and, in line {rows.line_num}, as {word}: keep one")
    except UnicodeDecodeError as error:
        raise SettingsError(f'the table of labels is not UTF-8, so save it as "CSV UTF-8": {error}') from error
    except csv.Error as error:
        raise SettingsError(f"the table of labels is not CSV: {error}") from error
    return table
