"""Files in folders of ours: those that a photo's hash names, those with rows that wait for a table, and the copies of models that an
endpoint server of this home has fetched.
"""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.people import doubts
from car_damage.errors import FileMissing, SettingsError
from car_damage.pipeline import Trace
from car_damage.ports import File, Files
from car_damage.traces import examples, lists
from car_damage.traces.sought import Sought


def _listed(files: Files, folder: str) -> Iterator[File]:
    try:
        yield from files.list(folder)
    except SettingsError:  # it is made with its first file
        return


class NamedFiles:
    """The files of a folder whose names begin with the photo's hash."""

    def __init__(self, files: Files, folder: str, called: str) -> None:
        self._files, self._folder, self._called = files, folder, called

    def find(self, sought: Sought) -> list[Trace]:
        count = len(self._named(sought))
        return [Trace(self._called, "files", count)] if count else []

    def remove(self, sought: Sought) -> None:
        for path in self._named(sought):
            self._files.remove(path)

    def _named(self, sought: Sought) -> list[str]:
        return sorted(file.path for file in _listed(self._files, self._folder) if sought.holds(file.path.rpartition("/")[2][:64]))


class WaitingRows:
    """The Parquet files of a folder whose rows wait for a table, and name photos in the column sha256."""

    def __init__(self, files: Files, folder: str, called: str) -> None:
        self._files, self._folder, self._called = files, folder, called

    def find(self, sought: Sought) -> list[Trace]:
        count = sum(removed for removed, _ in self._without(sought).values())
        return [Trace(self._called, "rows that wait for their table", count)] if count else []

    def remove(self, sought: Sought) -> None:
        for path, (_, left) in self._without(sought).items():
            if left.num_rows:
                self._files.replace(path, lists.written(left))
            else:
                self._files.remove(path)

    def _without(self, sought: Sought) -> dict[str, tuple[int, pa.Table]]:
        """Path -> how many rows of the photo the file has, and the others."""
        paths = sorted(file.path for file in _listed(self._files, self._folder) if file.path.endswith(".parquet"))
        parted = {}
        for path in paths:
            rows = lists.rows(self._files.read(path))
            mask = lists.among(rows, sought)
            if removed := pc.sum(mask).as_py():
                parted[path] = (removed, rows.filter(pc.invert(mask)))
        return parted


class DoubtfulLabels:
    """The list of labels that look wrong, on the review desk."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files, self._path = files, folder + doubts.FILE

    def find(self, sought: Sought) -> list[Trace]:
        listed, left = self._parted(sought)
        return [Trace("labels that look wrong", "its label", len(listed.photos) - len(left.photos))] if left != listed else []

    def remove(self, sought: Sought) -> None:
        listed, left = self._parted(sought)
        if left != listed:
            self._files.replace(self._path, left.written())

    def _parted(self, sought: Sought) -> tuple[doubts.Doubts, doubts.Doubts]:
        """The list, and the list without the photo."""
        try:
            listed = doubts.parse(self._files.read(self._path))
        except FileMissing:
            listed = doubts.Doubts("")
        return listed, replace(listed, photos=tuple(photo for photo in listed.photos if not sought.holds(photo.sha256)))


class ModelCopies:
    """The example in the copies of models that an endpoint server keeps: a test photo of their training."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files, self._folder = files, folder

    def find(self, sought: Sought) -> list[Trace]:
        count = len(self._showing(sought))
        return [Trace("the endpoint's copies of models", "the photo as their example", count)] if count else []

    def remove(self, sought: Sought) -> None:
        for path, data in self._showing(sought).items():
            self._files.replace(path, examples.with_another(data, examples.drawn()))

    def _showing(self, sought: Sought) -> dict[str, bytes]:
        paths = [file.path for file in _listed(self._files, self._folder) if file.path.rpartition("/")[2] in examples.FILES]
        found = {path: self._files.read(path) for path in sorted(paths)}
        return {path: data for path, data in found.items() if examples.shows(data, sought)}
