"""The landing folder of the simulation: real files, and what the people who put them there know of each."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.nights.photos import Photo


@dataclass(frozen=True)
class ListedFile:
    """One file as a listing shows it, and the truth about its bytes."""

    size: int
    """Bytes."""
    modified: int
    """Seconds since 1970."""
    photo: Photo


class Landing:
    """A folder on disk. `files` says what is in it: path relative to the folder -> photo."""

    def __init__(self, root: Path) -> None:
        self.root, self.number = root, 0
        self.files: dict[str, Photo] = {}
        self.subjects: dict[str, Photo] = {}
        """sha256 of every photo that was ever here -> the photo."""
        self.corrections = f"{root}/corrections/"
        self.corrected: dict[str, Photo] = {}
        """Photos that came with a word: full path -> photo."""
        self.folder.mkdir(parents=True)

    @property
    def folder(self) -> Path:
        return self.root / f"landing-{self.number}"

    def put(self, name: str, photo: Photo, modified: int) -> None:
        photo = replace(photo, modified=modified)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.data)
        os.utime(path, (modified, modified))
        self.files[name] = photo
        self.subjects[photo.sha256] = photo

    def correct(self, photo: Photo, modified: int) -> None:
        """A photo of the corrections folder is noted, and gets a time."""
        path = f"{self.corrections}photos/{photo.sha256}.jpg"
        os.utime(path, (modified, modified))
        self.corrected[path] = replace(photo, modified=modified)
        self.subjects[photo.sha256] = photo

    def take(self, name: str) -> Photo:
        (self.folder / name).unlink()
        return self.files.pop(name)

    def restore(self, files: Mapping[str, Photo]) -> None:
        """Make the folder hold exactly these files."""
        for name in [name for name in self.files if self.files[name] != files.get(name)]:
            self.take(name)
        for name, photo in files.items():
            if name not in self.files:
                self.put(name, photo, photo.modified)

    def relocate(self, number: int) -> None:
        """The folder gets another place, with everything in it."""
        before, self.number = self.folder, number
        before.rename(self.folder)

    def listed(self) -> dict[str, ListedFile]:
        """Full path -> file, in the landing folder and among the corrections."""
        photos = {f"{self.folder}/{name}": photo for name, photo in self.files.items()} | self.corrected
        return {path: ListedFile(len(photo.data), photo.modified, photo) for path, photo in photos.items()}
