"""Logs of processes of this home, whose lines may name a photo: by its hash, or by its path."""

from pathlib import Path

from car_damage.data.listing import listed
from car_damage.errors import FileMissing, Unavailable
from car_damage.pipeline import Trace
from car_damage.ports import Files
from car_damage.traces.sought import SoughtPhoto


class Logs:
    """The logs in a folder of this machine, which processes append to meanwhile."""

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
        found = {}
        for file in listed(self._files, self._folder):
            try:
                data = self._files.read(file.path)
            except FileMissing:
                continue
            if sought.named_in(data):
                found[file.path] = data
        return dict(sorted(found.items()))
