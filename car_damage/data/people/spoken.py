"""What was said about photos, read from the files of words. A file that was read is not read again: words never change."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from car_damage.data.listing import listed
from car_damage.data.people import reviews
from car_damage.data.people.reviews import Word
from car_damage.data.photos.ledger import WORDS
from car_damage.ports import Files


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
        self._read: dict[str, Word | None] = {}

    def listed(self) -> Callable[[str], Statements]:
        """What was said about a photo, by its sha256: from one listing, and from the files of its own words only.

        Raises:
            Unavailable: the words cannot be listed. So does the function, if one cannot be read.
        """
        paths: defaultdict[str, list[str]] = defaultdict(list)
        for file in listed(self._files, self._folder):
            paths[file.path.rpartition("/")[2].partition("-")[0]].append(file.path)
        return lambda sha256: self._said(paths.get(sha256, []))

    def _said(self, paths: list[str]) -> Statements:
        for path in paths:
            if path not in self._read:
                self._read[path] = self._word(path)
        history = sorted((word for path in paths if (word := self._read[path]) is not None), key=lambda word: word.said)
        return Statements(tuple(history), reviews.counting(history))

    def _word(self, path: str) -> Word | None:
        try:
            return reviews.parse(path, self._files.read(path))
        except ValueError:
            return None
