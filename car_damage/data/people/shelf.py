"""The folder in which photos wait for a person: two files for each photo, its bytes and its answer.

A photo is put there beside an answer, and listing the folders takes longer than answering. So they are listed now and then only. What
others do meanwhile is seen at the next look: until then a photo may come of which somebody has just spoken. Nobody is asked about it.
"""

from datetime import UTC, datetime, timedelta

from car_damage.data.listing import listed
from car_damage.data.people import reviews
from car_damage.data.people.spoken import Words
from car_damage.data.people.waiting import Answer
from car_damage.errors import Unavailable
from car_damage.ports import Clock, File, Files
from car_damage.settings import Answers

LOOK = timedelta(seconds=10)
"""Time between two looks."""
PHOTO, ANSWER = ".photo", ".json"
"""What the names of the two files end with, after the photo's sha256."""


class Shelf:
    """The folder, for whoever puts photos there. One thread at a time.

    Args:
        files: lists and writes.
        folder: with a slash at the end.
        answers: the settings.
        words: what people say.
        clock: says when it is time for another look.
    """

    def __init__(self, files: Files, folder: str, answers: Answers, words: Words, clock: Clock) -> None:
        self._files, self._folder, self._answers, self._words, self._clock = files, folder, answers, words, clock
        self._there: list[File] = []
        self._spoken_of: frozenset[str] = frozenset()
        self._again = datetime.min.replace(tzinfo=UTC)

    def look(self) -> None:
        """See what is there, unless the last look was some seconds ago. Raises Unavailable."""
        if (now := self._clock.now()) >= self._again:
            self._there, self._spoken_of = listed(self._files, self._folder), self._words.photos()
            self._again = now + LOOK

    def has(self, sha256: str) -> bool:
        """Whether this photo waits."""
        path = f"{self._folder}{sha256}{ANSWER}"
        return any(file.path == path for file in self._there)

    def is_spoken_of(self, sha256: str) -> bool:
        """Whether anything was said about this photo."""
        return sha256 in self._spoken_of

    def fits(self, size: int) -> bool:
        """Whether there is room for a photo of so many bytes."""
        few = sum(file.path.endswith(PHOTO) for file in self._there) < self._answers.keep_photos
        return few and sum(file.size for file in self._there) + size <= self._answers.keep_bytes

    def put(self, sha256: str, photo: bytes, answer: Answer) -> None:
        """Put a photo there. Raises Unavailable; then there is nothing of it."""
        parts = {f"{self._folder}{sha256}{PHOTO}": photo, f"{self._folder}{sha256}{ANSWER}": answer.written()}
        try:
            for path, data in parts.items():
                reviews.write(self._files, path, data)
        except Unavailable:
            for path in parts:  # a disk that is full may have taken a part
                self._files.remove(path)
            raise
        self._there += [File(path, len(data), self._clock.now()) for path, data in parts.items()]
