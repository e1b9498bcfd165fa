"""Files in folders of ours: those that a photo's hash names, those with rows that wait for a table, the logs of processes, and the copies
of models that an endpoint server of this home has fetched.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import parquet
from car_damage.data.listing import listed
from car_damage.data.people import doubts
from car_damage.errors import FileMissing, Unavailable
from car_damage.pipeline import Trace
from car_damage.ports import LEFT, Clock, Files
from car_damage.traces import examples, lists
from car_damage.traces.sought import SoughtPhoto, unreadable

T = TypeVar("T")


def _each(files: Files, paths: Iterable[str], parse: Callable[[bytes], T]) -> tuple[dict[str, T], list[Trace]]:
    """What is in each file that is still there, and a trace for each that cannot be read."""
    found, broken = {}, []
    for path in paths:
        try:
            found[path] = parse(files.read(path))
        except FileMissing:
            continue
        except ValueError:
            broken.append(unreadable(path))
    return found, broken


class NamedFiles:
    """The files of a folder whose names begin with the photo's hash."""

    def __init__(self, files: Files, folder: str, called: str) -> None:
        self._files, self._folder, self._called = files, folder, called

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        count = len(self._named(sought))
        return [Trace(self._called, "files", count)] if count else []

    def remove(self, sought: SoughtPhoto) -> None:
        for path in self._named(sought):
            self._files.remove(path)

    def _named(self, sought: SoughtPhoto) -> list[str]:
        return sorted(file.path for file in listed(self._files, self._folder) if sought.holds(file.path.rpartition("/")[2][:64]))


class Drafts:
    """Files of a folder that a killed writer has begun: each may have any photo. One that has this photo's hash goes even if it is new."""

    def __init__(self, files: Files, folder: str, clock: Clock) -> None:
        self._files, self._folder, self._clock = files, folder, clock

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        count = len(self._suspect(sought))
        return [Trace(f"files in {self._folder}", "begun by a killed writer, so perhaps with the photo", count)] if count else []

    def remove(self, sought: SoughtPhoto) -> None:
        for path in self._suspect(sought):
            self._files.remove(path)

    def _suspect(self, sought: SoughtPhoto) -> list[str]:
        killed = self._clock.now() - LEFT
        return [
            draft.path
            for draft in self._files.drafts(self._folder)
            if draft.modified < killed or sought.holds(draft.path.rpartition("/")[2][1:65]) or self._names(draft.path, sought)
        ]

    def _names(self, path: str, sought: SoughtPhoto) -> bool:
        return any(sought.named_in(data) for data in _each(self._files, [path], bytes)[0].values())


class Logs:
    """The logs in a folder of this machine, which processes append to meanwhile. A line may name a photo by its hash, or by its path."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files, self._folder = files, folder

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        count = len(self._naming(sought))
        return [Trace(f"logs in {self._folder}", "files with lines that name it", count)] if count else []

    def remove(self, sought: SoughtPhoto) -> None:
        """In place and in the same length: a process goes on writing to the file that it has opened."""
        for path, data in self._naming(sought).items():
            try:
                with Path(path).open("r+b") as log:
                    log.write(sought.blotted(data, same_length=True))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unavailable(f"{path} cannot be written: {error.strerror or error}") from error

    def _naming(self, sought: SoughtPhoto) -> dict[str, bytes]:
        found, _ = _each(self._files, sorted(file.path for file in listed(self._files, self._folder)), bytes)
        return {path: data for path, data in found.items() if sought.named_in(data)}


class WaitingRows:
    """The Parquet files of a folder whose rows wait for a table, and name photos in the column sha256."""

    def __init__(self, files: Files, folder: str, called: str) -> None:
        self._files, self._folder, self._called = files, folder, called

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        parted, broken = self._without(sought)
        count = sum(removed for removed, _ in parted.values())
        return ([Trace(self._called, "rows that wait for their table", count)] if count else []) + broken

    def remove(self, sought: SoughtPhoto) -> None:
        for path, (_, left) in self._without(sought)[0].items():
            if left.num_rows:
                self._files.replace(path, parquet.to_bytes(left))
            else:
                self._files.remove(path)

    def _without(self, sought: SoughtPhoto) -> tuple[dict[str, tuple[int, pa.Table]], list[Trace]]:
        """Path -> how many rows of the photo the file has, and the others. And the files that cannot be read."""
        paths = sorted(file.path for file in listed(self._files, self._folder) if file.path.endswith(".parquet"))
        found, broken = _each(self._files, paths, parquet.from_bytes)
        parted = {}
        for path, rows in found.items():
            mask = lists.among(rows, sought)
            if removed := pc.sum(mask).as_py():
                parted[path] = (removed, rows.filter(pc.invert(mask)))
        return parted, broken


class DoubtfulLabels:
    """The list of labels that look wrong, on the review desk."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files, self._path = files, folder + doubts.FILE

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        found, broken = self._parted(sought)
        return [Trace("labels that look wrong", "its label", gone) for gone, _ in found.values() if gone] + broken

    def remove(self, sought: SoughtPhoto) -> None:
        for path, (gone, left) in self._parted(sought)[0].items():
            if gone:
                self._files.replace(path, left.written())

    def _parted(self, sought: SoughtPhoto) -> tuple[dict[str, tuple[int, doubts.Doubts]], list[Trace]]:
        """The list's path -> how many labels of the photo it has, and the list without them."""

        def part(data: bytes) -> tuple[int, doubts.Doubts]:
            listed = doubts.parse(data)
            left = tuple(photo for photo in listed.photos if not sought.holds(photo.sha256))
            return len(listed.photos) - len(left), replace(listed, photos=left)

        return _each(self._files, [self._path], part)


class ModelCopies:
    """The example in the copies of models that an endpoint server keeps: a test photo of their training."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files, self._folder = files, folder

    def find(self, sought: SoughtPhoto) -> list[Trace]:
        count = len(self._showing(sought))
        return [Trace("the endpoint's copies of models", "the photo as their example", count)] if count else []

    def remove(self, sought: SoughtPhoto) -> None:
        for path, data in self._showing(sought).items():
            self._files.replace(path, examples.with_another(data, examples.drawn()))

    def _showing(self, sought: SoughtPhoto) -> dict[str, bytes]:
        paths = [file.path for file in listed(self._files, self._folder) if file.path.rpartition("/")[2] in examples.FILES]
        found, _ = _each(self._files, sorted(paths), bytes)
        return {path: data for path, data in found.items() if examples.shows(data, sought)}
