"""The review desk: photos that wait for a person, and what people have said about them.

The endpoint server keeps photos there whose answers ask for a person: a folder with two files for each photo, its bytes and its answer. A
photo leaves when it was reviewed, after some days, or never enters because the folder is full. Everything goes through the port
Files, so the desk works on a folder and on a volume.
"""

import hashlib
import json
import secrets
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from car_damage.data import reviews
from car_damage.data.ledger import WORDS
from car_damage.data.reviews import Word
from car_damage.errors import FileMissing, SettingsError, Unavailable
from car_damage.ports import Clock, File, Files
from car_damage.settings import Answers

REVIEWED = timedelta(minutes=15)
"""Time for which a photo stays after it was reviewed, so that a word can be taken back."""
_PHOTO, _ANSWER = ".photo", ".json"
_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


@dataclass(frozen=True)
class Answer:
    """The answer that asked for a person."""

    label: str
    probabilities: Mapping[str, float]
    """Class -> probability."""
    classes: tuple[str, ...]
    """The classes that the answer cannot exclude; empty if the model does not say."""
    served_by: str
    """The served entity that answered."""
    asked: str
    """When, in ISO 8601, UTC."""

    @property
    def version(self) -> int | None:
        """The version that answered."""
        return version_of(self.served_by)

    @property
    def doubt(self) -> float:
        """1 less the probability of the label."""
        return 1 - self.probabilities.get(self.label, 0.0)


@dataclass(frozen=True)
class Waiting:
    """A photo on the desk."""

    sha256: str
    answer: Answer
    history: tuple[Word, ...] = ()
    """What was said about it, in the order of time. Of these no word is left."""


@dataclass(frozen=True)
class Said:
    """What was said about one photo."""

    history: tuple[Word, ...]
    counts: Word | None
    """The word that counts; None if none is left."""


def version_of(served_by: str) -> int | None:
    """The version in the name of a served entity; None if it has none."""
    number = served_by.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) < 10 else None


class Desk:
    """The desk of these settings.

    Args:
        files: reads and writes both folders.
        answers: the settings.
        clock: says when something was said, and what is old.
    """

    def __init__(self, files: Files, answers: Answers, clock: Clock) -> None:
        self._files, self._answers, self._clock = files, answers, clock
        self._words: dict[str, Word | None] = {}
        self._space = threading.Lock()
        self.dropped = 0
        """Photos that were not kept, because there was no room or the disk refused them."""

    def drop(self, photos: int) -> None:
        """Count photos that were dropped before they came here."""
        self.dropped += photos

    def now(self) -> datetime:
        """The time of the desk, UTC."""
        return self._clock.now()

    def keep(self, photo: bytes, answer: Answer) -> bool:
        """Keep a photo until it is reviewed. False if it was dropped, or nothing is kept here.

        A photo that was reviewed is not kept again.
        """
        folder = self._answers.keep_for_review
        if folder is None:
            return False
        sha256 = hashlib.sha256(photo).hexdigest()
        with self._space:
            try:
                kept = self._listed(folder)
                if any(file.path == f"{folder}{sha256}{_ANSWER}" for file in kept) or self.said(sha256).counts is not None:
                    return False
                if fits := self._fits(kept, len(photo)):
                    reviews.write(self._files, f"{folder}{sha256}{_PHOTO}", photo)
                    reviews.write(self._files, f"{folder}{sha256}{_ANSWER}", json.dumps(asdict(answer)).encode())
            except Unavailable:
                fits = False
            self.dropped += not fits
            return fits

    def _fits(self, kept: list[File], size: int) -> bool:
        few = sum(file.path.endswith(_PHOTO) for file in kept) < self._answers.keep_photos
        return few and sum(file.size for file in kept) + size <= self._answers.keep_bytes

    def waiting(self) -> list[Waiting]:
        """The photos that wait for a word, largest doubt first. Removes those that wait no longer.

        Raises:
            Unavailable: a folder cannot be listed.
        """
        folder = self._answers.keep_for_review
        found: list[Waiting] = []
        spoken = self._spoken()
        for file in self._listed(folder) if folder else []:
            sha256 = file.path.rpartition("/")[2].removesuffix(_ANSWER)
            if not file.path.endswith(_ANSWER):
                continue
            said = self._said(spoken[sha256])
            if self._is_over(file, said.counts):
                self._remove(sha256)
            elif said.counts is None and (answer := self._answer(file.path)) is not None:
                found.append(Waiting(sha256, answer, said.history))
        return sorted(found, key=lambda one: (-one.answer.doubt, one.sha256))

    def answer(self, sha256: str) -> Answer | None:
        """The answer that asked for a person; None if the photo is not kept here."""
        folder = self._answers.keep_for_review
        return self._answer(f"{folder}{sha256}{_ANSWER}") if folder else None

    def photo(self, sha256: str) -> bytes | None:
        """The bytes of a photo on the desk; None if it is not there.

        Raises:
            Unavailable: it cannot be read.
        """
        folder = self._answers.keep_for_review
        try:
            return self._files.read(f"{folder}{sha256}{_PHOTO}") if folder else None
        except FileMissing:
            return None

    def said(self, sha256: str) -> Said:
        """What was said about a photo.

        Raises:
            Unavailable: the words cannot be listed.
        """
        return self._said(self._spoken()[sha256])

    def _spoken(self) -> defaultdict[str, list[str]]:
        """sha256 of a photo -> the paths of its words, from one listing."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for file in self._listed(self._answers.corrections + WORDS):
            found[reviews.photo_of(file.path)].append(file.path)
        return found

    def _said(self, paths: list[str]) -> Said:
        for path in paths:
            if path not in self._words:
                self._words[path] = self._word(path)
        history = sorted((word for path in paths if (word := self._words[path]) is not None), key=lambda word: word.said)
        return Said(tuple(history), reviews.counting(history))

    def take(self, sha256: str, label: str, by: str, *, photo: bytes | None = None, served_by: str = "", answered: str = "") -> Said:
        """Take a word.

        Args:
            sha256: of the photo.
            label: as `reviews.checked` returns it.
            by: who says it.
            photo: its bytes, where the photo lies neither in the landing folder nor on the desk.
            served_by: the served entity whose answer the person saw; empty: the one that the desk knows.
            answered: its label.

        Raises:
            ValueError: a text is empty or too long, or the hash is none.
            Unavailable: the word cannot be written. Nothing was said.
        """
        known = self.answer(sha256)
        answer = (version_of(served_by), answered or None) if served_by or known is None else (known.version, known.label)
        word = Word(sha256, label, " ".join(by.split()), self._clock.now(), *answer)
        data = photo if photo is not None else self.photo(sha256)
        reviews.say(
            self._files, self._answers.corrections, word, secrets.token_hex(8), photo=data, suffix=suffix(data) if data is not None else ""
        )
        return self.said(sha256)

    def _is_over(self, file: File, word: Word | None) -> bool:
        now = self._clock.now()
        return file.modified < now - timedelta(days=self._answers.keep_days) or (word is not None and word.said < now - REVIEWED)

    def _remove(self, sha256: str) -> None:
        for end in (_PHOTO, _ANSWER):  # the answer last: with it a kill leaves the photo to the next look
            self._files.remove(f"{self._answers.keep_for_review}{sha256}{end}")

    def _listed(self, folder: str) -> list[File]:
        try:
            return list(self._files.list(folder))
        except SettingsError:  # it is made with its first file
            return []

    def _answer(self, path: str) -> Answer | None:
        try:
            fields: dict[str, Any] = json.loads(self._files.read(path))
            return Answer(**fields | {"classes": tuple(fields["classes"])})
        except (FileMissing, ValueError, TypeError, KeyError):
            return None

    def _word(self, path: str) -> Word | None:
        try:
            return reviews.parse(path, self._files.read(path))
        except ValueError:
            return None


def suffix(photo: bytes) -> str:
    """What the name of a photo's file ends with, for people: validation looks at its bytes. Empty for a rarer format."""
    return next((end for start, end in _SUFFIXES.items() if photo.startswith(start)), "")
