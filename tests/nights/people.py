"""The people around a landing folder: what they know, and the small things they do. `habits` says what they do on which day."""

import csv
import io
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from car_damage.adapters.folder import Folder
from car_damage.data.people import reviews
from car_damage.data.people.reviews import Word
from tests.nights.landing import Landing
from tests.nights.photos import CLASSES, Photo, draw, saved_again

BASE = 1_700_000_000
DAY = 86_400 + 60
"""Seconds between two nights: a minute more than a day, so that the age of things in days does not depend on how long a run waits."""
ALIASES = {"light": "minor", "mid": "moderate", "severe": "major"}
FOLDERS = {"minor": ("minor", "light"), "moderate": ("moderate", "mid"), "major": ("major", "severe")}
"""Class -> the folders in which people put its photos."""


class People:
    """People who keep about `live` photos in the landing folder. The same seed gives the same days."""

    def __init__(self, landing: Landing, seed: int, live: int) -> None:
        self.landing, self.live = landing, live
        self.random = random.Random(seed)
        self.night, self.drawn = 0, 0
        self.sections: dict[str, dict[str, Any]] = {"labels": {"aliases": dict(ALIASES)}, "images": {}, "training": {"epochs": 10}}
        """The settings that they change."""
        self.table: dict[str, str] = {}
        """Labels by path, for the days on which the settings want them from a table."""
        self.unreadable: set[str] = set()
        """Full paths that cannot be read at present."""
        self.while_training: list[Callable[[], None]] = []
        """What happens while a network trains tonight."""
        self.kills = self.rolls_back = False
        """Whether tonight's run is killed; whether a person rolls the champion back before it."""
        self.words: list[Word] = []
        """What they have said about photos, in the order of time."""
        self.removed: list[tuple[str, Photo]] = []
        self.days: list[dict[str, Photo]] = []
        """The folder's files at the begin of each of the last days."""
        self._plans: list[tuple[int, Callable[[], None]]] = []
        self._undos: list[Callable[[], None]] = []
        for number in range(live):
            self.arrive(CLASSES[number % 3])

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return BASE + self.night * DAY

    def begin_day(self, night: int) -> None:
        """A day begins: what was planned for it happens."""
        self.night, self.kills, self.rolls_back = night, False, False
        self.while_training, self._undos = [], []
        self.days = [*self.days[-4:], dict(self.landing.files)]
        due = [plan for plan in self._plans if plan[0] <= night]
        self._plans = [plan for plan in self._plans if plan[0] > night]
        for _, do in due:
            do()

    def ordinary_work(self) -> None:
        """Some photos arrive, and the folder is kept from growing."""
        for _ in range(self.random.randrange(2, 8)):
            self.arrive(self.random.choice(CLASSES))
        while len(self.landing.files) > self.live + 10:
            self.remove(self.random.choice(sorted(self.landing.files)))

    def later(self, days: int, do: Callable[[], None], *, undoes: bool = False) -> None:
        """Plan something. What undoes today's change can also be done at once by `put_right`."""
        plan = (self.night + days, do)
        self._plans.append(plan)
        if undoes:
            self._undos.append(lambda: self._at_once(plan))

    def undo(self, do: Callable[[], None]) -> None:
        """How today's change is taken back by people whom no advice has helped."""
        self._undos.append(do)

    def take_back(self) -> bool:
        """Take today's changes back. False where there is nothing to take back."""
        undos, self._undos, self.while_training = self._undos, [], []
        for undo in undos:
            undo()
        return bool(undos)

    def put_right(self) -> None:
        """Take today's changes back, and touch every file, so that each gets a new verdict."""
        self.take_back()
        self.unreadable.clear()
        for name, photo in list(self.landing.files.items()):
            self.landing.put(name, photo, photo.modified + 1)

    def write_table(self) -> None:
        """Write the table of labels to where the settings say."""
        text = io.StringIO()
        csv.writer(text).writerows([("path", "label"), *sorted(self.table.items())])
        Path(self.sections["labels"]["table"]).write_text(text.getvalue())

    def label_of(self, name: str) -> str | None:
        """The class by the photo's folder and the present aliases."""
        word = word_of(name)
        return word if word in CLASSES else self.sections["labels"]["aliases"].get(word)

    def another_label(self, name: str) -> str:
        return self.random.choice([label for label in CLASSES if label != self.label_of(name)])

    def some(self, most: int) -> list[str]:
        names = sorted(self.landing.files)
        return self.random.sample(names, min(most, len(names)))

    def new_photo(self, label: str) -> Photo:
        self.drawn += 1
        return draw(self.drawn, label, self.random.choice((52, 56, 64, 64, 72)))

    def arrive(self, label: str, folder: str | None = None) -> None:
        folder = folder or FOLDERS[label][self.random.random() < 0.3]
        photo = self.new_photo(label)
        self.landing.put(f"{folder}/photo_{self.drawn:05d}.jpg", photo, self.now)

    def remove(self, name: str) -> None:
        if name in self.landing.files:
            self.removed.append((name, self.landing.take(name)))

    def say(self, photo: Photo, label: str, by: str, *, sent: bool = False) -> None:
        """Say what a photo shows, on the review desk. `sent`: the photo came with the word, and joins the corrections."""
        said = datetime.fromtimestamp(self.now + len(self.words), UTC)
        word, unique = Word(photo.sha256, label, by, said), f"word{len(self.words)}"
        reviews.say(Folder(), self.landing.corrections, word, unique, photo=photo.data if sent else None, suffix=".jpg")
        self.words.append(word)
        if sent:
            self.landing.correct(photo, self.now)

    def save_again(self, name: str) -> None:
        if (photo := self.landing.files[name]).subject:
            self.landing.put(name, saved_again(photo, self.random.choice((75, 85))), self.now)

    def take_away(self, names: list[str]) -> None:
        """The files are not there for a night or two."""
        away = {name: self.landing.take(name) for name in names}

        def back() -> None:
            for name, photo in away.items():
                if name not in self.landing.files:
                    self.landing.put(name, photo, photo.modified)

        self.later(self.random.randrange(1, 3), back, undoes=True)

    def _at_once(self, plan: tuple[int, Callable[[], None]]) -> None:
        if plan in self._plans:
            self._plans.remove(plan)
            plan[1]()


def word_of(name: str) -> str:
    """The name of the folder that a file is in."""
    return name.rpartition("/")[0].rpartition("/")[2]
