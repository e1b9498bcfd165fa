"""What was said about photos, read from the files of words."""

from collections.abc import Iterable
from dataclasses import dataclass

from car_damage.data.listing import Contents, listed
from car_damage.data.people import reviews
from car_damage.data.people.reviews import Word
from car_damage.data.photos.ledger import WORDS
from car_damage.ports import File, Files


@dataclass(frozen=True)
class Statements:
    """What was said about one photo."""

    history: tuple[Word, ...] = ()
    """In the order of time."""
    counts: Word | None = None
    """The word that counts; None if none is left."""


class Words:
    """The words in a corrections folder.

    Args:
        files: reads them.
        corrections: the folder, with a slash at the end.
    """

    def __init__(self, files: Files, corrections: str) -> None:
        self._files, self._folder = files, corrections + WORDS
        self._words = Contents(files, reviews.parse)

    def photos(self) -> frozenset[str]:
        """sha256 of the photos about which anything was said. Raises Unavailable."""
        return frozenset(reviews.photo_of(file.path) for file in self._listed())

    def of(self, photos: Iterable[str]) -> dict[str, Statements]:
        """What was said about each of these photos, by its sha256: from one listing, and from the files of their own words only.

        Raises:
            Unavailable: the words cannot be listed, or one cannot be read.
        """
        files: dict[str, list[File]] = {sha256: [] for sha256 in photos}
        for file in self._listed():
            if (sha256 := reviews.photo_of(file.path)) in files:
                files[sha256].append(file)
        words = self._words.of([file for own in files.values() for file in own])
        return {sha256: _statements([words[file.path] for file in own if file.path in words]) for sha256, own in files.items()}

    def _listed(self) -> list[File]:
        return listed(self._files, self._folder)


def _statements(words: list[Word]) -> Statements:
    history = sorted(words, key=lambda word: word.said)
    return Statements(tuple(history), reviews.counting(history))
