"""Night after night: people live a day, the pipeline runs, what it says is done, and the invariants are checked."""

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from car_damage.errors import LandingLost
from car_damage.pipeline import RegisterRequest, TrainRequest, ValidateRequest
from tests.nights import record as records
from tests.nights.habits import HABITS, Deck, Habit
from tests.nights.invariants import INVARIANTS
from tests.nights.landing import Landing
from tests.nights.people import People
from tests.nights.record import Past, Record
from tests.nights.world import World

REQUESTS = (ValidateRequest, TrainRequest, RegisterRequest)
OPTIONS = {field.name for request in REQUESTS for field in fields(request) if field.type is bool} - {"dry_run"}
"""What a message may ask a person to run again with."""


@dataclass(frozen=True)
class Breach:
    """An invariant that a night broke."""

    invariant: str
    night: int
    habit: str
    what: str


class Simulation:
    """A landing folder, the people around it, and the pipeline.

    Args:
        root: an empty folder for everything.
        seed: the same seed gives the same nights.
        live: about how many photos the landing folder holds.
        habits: what people do.
        measured: measure fresh tables every so many nights.
    """

    def __init__(self, root: Path, seed: int = 1, live: int = 150, habits: Sequence[Habit] = HABITS, measured: int = 10) -> None:
        self.root, self.measured = root, measured
        self.people = People(Landing(root / "landings"), seed, live)
        self.world = World(root / "home", self.people)
        self.breaches: list[Breach] = []
        self._runs = 0
        self._deck, self._past, self._random = Deck(habits), Past(), random.Random(seed)

    def nights(self, number: int) -> Iterator[Record]:
        """Simulate this many nights. Yields the record of every run: a night has several when one fails."""
        for night in range(number):
            habit = self._deck.day(self.people, night)
            if self.people.rolls_back:
                self.world.roll_back(f"rollback {night}")
            run = self._killed_first(night, habit) if self.people.kills else self._run(night, habit)
            yield run
            if run.night.ending == "Failed":
                yield from self._helped(run)

    def _helped(self, failed: Record) -> Iterator[Record]:
        """Do what the message says, and run again. If that fails too, take back what people did, and run with every option.

        Where photos have vanished, people mount the folder again, or tell the run that they were removed on purpose.
        """
        asked = {name: True for name in OPTIONS if name in failed.night.message}
        by_mistake = not self.people.landing.files or self._random.random() < 0.5
        if isinstance(failed.night.error, LandingLost) and by_mistake and self.people.take_back():
            asked = {}
        run = self._run(failed.number, failed.habit, follows=failed, **asked)
        yield run
        if run.night.ending == "Failed":
            self.people.put_right()
            run = self._run(failed.number, failed.habit, **dict.fromkeys(OPTIONS, True))
            yield run
            assert run.night.ending != "Failed", f"night {run.number} after {run.habit} fails whatever people do: {run.night.message}"

    def _killed_first(self, night: int, habit: str) -> Record:
        """A run that is killed between two effects, and then a normal one; and in a copy of the world a normal one only."""
        home = self.root / "twin"
        twin = self.world.twin(home)
        normal = twin.run(f"night {night}")
        expected = records.state(twin)
        shutil.rmtree(home)
        if normal.effects:
            self.world.run(f"night {night}, killed", kill_before=self._random.randrange(normal.effects))
        return self._run(night, habit, normal=expected)

    def _run(self, number: int, habit: str, follows: Record | None = None, normal: object = None, **options: bool) -> Record:
        world, people = self.world, self.people
        listed, unreadable, table = people.landing.listed(), frozenset(people.unreadable), dict(people.table)
        before, words, started = records.standing(world), tuple(people.words), time.process_time()
        self._runs += 1
        night = world.run(f"run {self._runs} of night {number}", **options)
        seconds = time.process_time() - started
        names = world.settings.tables
        record = Record(
            number=number,
            habit=habit,
            night=night,
            settings=world.settings,
            listed=listed,
            remaining=people.landing.listed(),
            table=table,
            unreadable=unreadable,
            words=words,
            reviews=records.rows(world, names.reviews, records.REVIEWS),
            bronze=records.rows(world, names.bronze, records.BRONZE),
            silver=records.rows(world, names.silver, records.SILVER),
            before=before,
            after=records.standing(world),
            networks=records.networks(world),
            trained=frozenset(world.trained),
            follows=follows,
            normal=normal,  # type: ignore[arg-type]
            ended=records.state(world) if normal is not None else None,
            seconds=seconds,
            disk=records.disk(world),
            fresh=records.fresh(world) if number % self.measured == 0 else 0,
        )
        for invariant in INVARIANTS:
            self.breaches += [Breach(invariant.__name__, number, habit, what) for what in invariant(self._past, record)]
        self._past.remember(record)
        return record
