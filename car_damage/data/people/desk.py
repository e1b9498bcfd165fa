"""The review desk: photos that wait for a person, and what people have said about them.

The endpoint server keeps photos there whose answers ask for a person: a folder with two files for each photo, its bytes and its answer. A
photo leaves when it was reviewed, after some days, or never enters because the folder is full. A training adds a list of photos whose
labels look wrong; these photos stay where they lie. Everything goes through the port Files, so the desk works on a folder and on a volume.
"""

import hashlib
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from car_damage.data.listing import Contents, listed
from car_damage.data.people import reviews
from car_damage.data.people.doubts import FILE as DOUBTS
from car_damage.data.people.doubts import Doubt, Doubts
from car_damage.data.people.doubts import parse as doubts_in
from car_damage.data.people.reviews import Word
from car_damage.data.people.shelf import ANSWER, PHOTO, Shelf
from car_damage.data.people.spoken import Statements, Words
from car_damage.data.people.waiting import Answer, Waiting
from car_damage.data.people.waiting import parse as answer_in
from car_damage.errors import FileMissing, Unavailable
from car_damage.ports import Clock, File, Files, version_of
from car_damage.settings import Answers

REVIEWED = timedelta(minutes=15)
"""Time for which a photo stays after it was reviewed, so that a word can be taken back."""
UNANSWERED = timedelta(minutes=10)
"""Time after which a photo without an answer goes: whoever wrote it was killed before its answer."""


class Desk:
    """The desk of these settings.

    Args:
        files: reads and writes both folders.
        answers: the settings.
        clock: says when something was said, and what is old.
    """

    def __init__(self, files: Files, answers: Answers, clock: Clock) -> None:
        self._files, self._answers, self._clock = files, answers, clock
        self._words = Words(files, answers.corrections)
        self._kept_answers = Contents(files, lambda _, data: answer_in(data))
        self._space = threading.Lock()
        self._shelf = Shelf(files, answers.keep_for_review or "", answers, self._words, clock)
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

        A photo that was reviewed is not kept again, and one about whose label people are asked lies elsewhere.
        """
        if self._answers.keep_for_review is None:
            return False
        sha256 = hashlib.sha256(photo).hexdigest()
        with self._space:
            try:
                self._shelf.look()
                if self._shelf.has(sha256):
                    return False
                if fits := self._shelf.fits(len(photo)):
                    if self._is_known(sha256):
                        return False
                    self._shelf.put(sha256, photo, answer)
            except Unavailable:
                fits = False
            self.dropped += not fits
            return fits

    def _is_known(self, sha256: str) -> bool:
        doubted = any(one.sha256 == sha256 for one, _ in self._doubts())
        return doubted or (self._shelf.is_spoken_of(sha256) and self.said(sha256).counts is not None)

    def waiting(self) -> list[Waiting]:
        """The photos that wait for a word: those whose answer asks for a person, then those whose label looks wrong; of each the largest
        doubt first. Removes those that wait no longer.

        Raises:
            Unavailable: a folder cannot be listed.
        """
        kept, doubts = self._listed(), self._doubts()
        said = self._words.of([*map(_photo_of, kept), *(one.sha256 for one, _ in doubts)])
        over = self._over(kept, said)
        self.remove(over)
        doubted = {one.sha256: one for one in _doubted(doubts, said)}
        asked = [one for one in self._asked({*kept} - {*over}, said) if one.sha256 not in doubted]
        return [*sorted(asked, key=lambda one: (-one.answer.doubt, one.sha256)), *doubted.values()]

    def over(self) -> list[File]:
        """The files of photos that wait no longer. Raises Unavailable, as `waiting`."""
        kept = self._listed()
        return self._over(kept, self._words.of(map(_photo_of, kept)))

    def remove(self, over: list[File]) -> None:
        """Remove these. Raises Unavailable."""
        for file in over:
            self._files.remove(file.path)

    def doubt(self, doubts: Doubts) -> None:
        """Ask whether these labels are right, in place of those of an earlier training. Nothing is asked where nothing is kept.

        Raises:
            Unavailable: they cannot be written.
        """
        if folder := self._answers.keep_for_review:
            self._files.replace(folder + DOUBTS, doubts.written())

    def answer(self, sha256: str) -> Answer | None:
        """What a model said about a photo that waits; None if it does not wait here."""
        folder = self._answers.keep_for_review
        kept = self._read(f"{folder}{sha256}{ANSWER}") if folder else None
        with suppress(ValueError):
            return answer_in(kept or b"")
        return next((said for one, said in self._doubts() if one.sha256 == sha256), None)

    def photo(self, sha256: str) -> bytes | None:
        """The bytes of a photo that waits; None if it is not there any more.

        Raises:
            Unavailable: it cannot be read.
        """
        if (kept := self._kept(sha256)) is not None:
            return kept
        path = next((one.path for one, _ in self._doubts() if one.sha256 == sha256), None)
        data = self._read(path) if path else None
        return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None

    def said(self, sha256: str) -> Statements:
        """What was said about a photo.

        Raises:
            Unavailable: the words cannot be listed.
        """
        return self._words.of([sha256])[sha256]

    def take(self, sha256: str, label: str, by: str, *, photo: bytes | None = None, served_by: str = "", answered: str = "") -> Statements:
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
        data = photo if photo is not None else self._kept(sha256)
        suffix = reviews.suffix(data) if data is not None else ""
        reviews.say(self._files, self._answers.corrections, word, secrets.token_hex(8), photo=data, suffix=suffix)
        return self.said(sha256)

    def _listed(self) -> list[File]:
        folder = self._answers.keep_for_review
        return listed(self._files, folder) if folder else []

    def _asked(self, kept: Collection[File], said: Mapping[str, Statements]) -> Iterator[Waiting]:
        """The photos whose answers ask for a person."""
        asking = [file for file in kept if file.path.endswith(ANSWER) and said[_photo_of(file)].counts is None]
        answers = self._kept_answers.of(asking)
        for file in asking:
            if (answer := answers.get(file.path)) is not None:
                yield Waiting(_photo_of(file), answer, said[_photo_of(file)].history)

    def _doubts(self) -> list[tuple[Doubt, Answer]]:
        """The labels that look wrong, and what the model says in their place."""
        folder = self._answers.keep_for_review
        try:
            doubts = doubts_in(self._read(folder + DOUBTS) or b"") if folder else Doubts("")
        except ValueError:  # there is none, or it is being written
            return []
        return [(one, Answer(one.says, one.probabilities, (), "", doubts.said)) for one in doubts.photos]

    def _over(self, kept: list[File], said: Mapping[str, Statements]) -> list[File]:
        """The answers last: with its answer a kill leaves a photo to the next look."""
        answers = {_photo_of(file): file for file in kept if file.path.endswith(ANSWER)}
        over = {sha256 for sha256, file in answers.items() if self._is_over(file, said[sha256].counts)}
        early = self._clock.now() - UNANSWERED
        photos = [file for file in kept if file.path.endswith(PHOTO)]
        gone = [file for file in photos if _photo_of(file) in over or (_photo_of(file) not in answers and file.modified < early)]
        return gone + [answers[sha256] for sha256 in over]

    def _is_over(self, file: File, word: Word | None) -> bool:
        now = self._clock.now()
        return file.modified < now - timedelta(days=self._answers.keep_days) or (word is not None and word.said < now - REVIEWED)

    def _kept(self, sha256: str) -> bytes | None:
        folder = self._answers.keep_for_review
        return self._read(f"{folder}{sha256}{PHOTO}") if folder else None

    def _read(self, path: str) -> bytes | None:
        try:
            return self._files.read(path)
        except FileMissing:
            return None


def _photo_of(file: File) -> str:
    return file.path.rpartition("/")[2].partition(".")[0]


def _doubted(doubts: list[tuple[Doubt, Answer]], said: Mapping[str, Statements]) -> list[Waiting]:
    """The photos whose labels look wrong."""
    of_them = [(one, answer, said[one.sha256]) for one, answer in doubts]
    return [Waiting(one.sha256, answer, words.history, one.label) for one, answer, words in of_them if words.counts is None]
