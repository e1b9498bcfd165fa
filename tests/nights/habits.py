"""What people do to the landing folder and to the settings, a habit a day.

The habits are a deck of cards: every one comes once before any comes again, so a few dozen nights have seen all of them. What a
habit takes away for a while (a folder, a class, an alias, a setting) it gives back some days later.
"""

from collections.abc import Callable, Sequence

from tests.nights.people import ALIASES, FOLDERS, People, word_of
from tests.nights.photos import CLASSES, broken, of_size, saved_again, walk

Habit = Callable[[People], None]


class Deck:
    """Habits in a random order, over and over."""

    def __init__(self, habits: Sequence[Habit]) -> None:
        self._habits, self._left = list(habits), list[Habit]()

    def day(self, people: People, night: int) -> str:
        """Let people live the day before this night. Returns the name of its habit."""
        people.begin_day(night)
        if not self._left:
            self._left = people.random.sample(self._habits, len(self._habits))
        habit = self._left.pop()
        if habit not in {quiet_day, an_earlier_day_again}:
            people.ordinary_work()
        habit(people)
        if "table" in people.sections["labels"]:
            people.write_table()
        return habit.__name__


def quiet_day(_: People) -> None:
    """Nobody does anything."""


def an_earlier_day_again(people: People) -> None:
    """The folder becomes what it was some days before."""
    people.landing.restore(people.random.choice(people.days))


def copies(people: People) -> None:
    for name in people.some(3):
        folder, _, file = name.rpartition("/")
        people.landing.put(f"{folder}/copy_{people.night}_{file}", people.landing.files[name], people.now)


def copies_with_another_label(people: People) -> None:
    """Photos are relabelled by copying them today and deleting the originals tomorrow."""
    for name in people.some(5):
        copy = f"{people.another_label(name)}/relabelled_{people.night}_{name.rpartition('/')[2]}"
        people.landing.put(copy, people.landing.files[name], people.now)
        people.later(1, lambda name=name: people.remove(name))


def moves_to_another_label(people: People) -> None:
    for name in people.some(3):
        photo = people.landing.take(name)
        people.landing.put(f"{people.another_label(name)}/moved_{people.night}_{name.rpartition('/')[2]}", photo, photo.modified)


def moves(people: People) -> None:
    for name in people.some(4):
        photo = people.landing.take(name)
        people.landing.put(f"batch {people.night}/{word_of(name)}/{name.rpartition('/')[2]}", photo, photo.modified)


def saves_some_again(people: People) -> None:
    for name in people.some(6):
        people.save_again(name)


def saves_all_again(people: People) -> None:
    for name in sorted(people.landing.files):
        people.save_again(name)


def overwrites(people: People) -> None:
    for name in people.some(4):
        people.landing.put(name, people.new_photo(people.landing.files[name].label or CLASSES[0]), people.now)


def overwrites_unnoticed(people: People) -> None:
    """With other photos of the same size, and the times of the files before."""
    for name in people.some(3):
        before = people.landing.files[name]
        after = of_size(people.new_photo(before.label or CLASSES[0]), len(before.data))
        if after is not None:
            people.landing.put(name, after, before.modified)


def deletes(people: People) -> None:
    for name in people.some(8):
        people.remove(name)


def brings_back(people: People) -> None:
    """Photos that were deleted return: the same bytes, or saved again."""
    people.random.shuffle(people.removed)
    for name, photo in people.removed[-10:]:
        if name not in people.landing.files:
            again = photo.subject and people.random.random() < 0.5
            people.landing.put(name, saved_again(photo, 80) if again else photo, people.now)
    del people.removed[-10:]


def class_away(people: People) -> None:
    label = people.random.choice(CLASSES)
    people.take_away([name for name in people.landing.files if word_of(name) in FOLDERS[label]])


def folder_away(people: People) -> None:
    folder = people.random.choice(sorted(ALIASES))
    people.take_away([name for name in people.landing.files if word_of(name) == folder])


def everything_away(people: People) -> None:
    """The mount is empty."""
    people.take_away(list(people.landing.files))


def alias_away(people: People) -> None:
    word = people.random.choice(sorted(ALIASES))
    aliases = people.sections["labels"]["aliases"]
    if label := aliases.pop(word, None):
        people.later(people.random.randrange(1, 3), lambda: aliases.update({word: label}), undoes=True)


def new_word(people: People) -> None:
    """Photos come in a folder of an unknown name, which becomes an alias the day after."""
    word, label = f"word {people.night}", people.random.choice(CLASSES)
    for _ in range(3):
        people.arrive(label, word)
    people.later(1, lambda: people.sections["labels"]["aliases"].update({word: label}))


def larger_photos_only(people: People) -> None:
    people.sections["images"]["min_side"] = 60
    people.later(3, lambda: people.sections["images"].pop("min_side", None), undoes=True)


def another_place(people: People) -> None:
    """The landing folder moves, with everything in it."""
    before = people.landing.number
    people.landing.relocate(people.night + 1)
    people.undo(lambda: people.landing.relocate(before))


def label_table(people: People) -> None:
    """Labels come from a table for two nights. It corrects some labels, and lacks some photos."""
    labels = {name: people.label_of(name) for name in people.landing.files}
    people.table = {name: label for name, label in labels.items() if label}
    for name in people.some(3):
        people.table[name] = people.another_label(name)
    for name in people.some(5):
        people.table.pop(name, None)
    section = people.sections["labels"]
    section |= {"source": "table", "table": str(people.landing.root / "labels.csv")}
    people.later(2, lambda: [section.pop(key, None) for key in ("source", "table")], undoes=True)


def cannot_be_read(people: People) -> None:
    """Two photos cannot be read for three nights, but are listed."""
    paths = {f"{people.landing.folder}/{name}" for name in people.some(2)}
    people.unreadable |= paths
    people.later(3, lambda: people.unreadable.difference_update(paths))


def deletes_while_training(people: People) -> None:
    """Photos that were there at the start of the run are gone at its end, on every run of tonight."""
    people.while_training.append(lambda: [people.remove(name) for name in people.some(10)])


def walks_around_a_car(people: People) -> None:
    """Photos of one walk: first every third of them; the others come later, one a day."""
    label = people.random.choice(CLASSES)
    frames = [(f"{label}/walk_{people.night}_{number}.jpg", photo) for number, photo in enumerate(walk(people.night, label))]
    for name, photo in frames[::3]:
        people.landing.put(name, photo, people.now)
    for days, (name, photo) in enumerate(frames[1::3] + frames[2::3], 1):
        people.later(days, lambda name=name, photo=photo: people.landing.put(name, photo, people.now))


def broken_files(people: People) -> None:
    for number in range(4):
        people.landing.put(
            f"{people.random.choice(CLASSES)}/broken_{people.night}_{number}.jpg", broken(4 * people.night + number), people.now
        )


def reviews_labels(people: People) -> None:
    """Ann says what some photos show, mostly what their folder does not say."""
    for name in people.some(4):
        people.say(people.landing.files[name], people.another_label(name), "Ann")
    for name in people.some(2):
        people.say(people.landing.files[name], people.random.choice(("not_a_car", "cannot_tell")), "Ann")


def disagrees_and_takes_back(people: People) -> None:
    """Bob contradicts Ann, and takes his latest word on some photos back, or one that he never said."""
    for name in people.some(4):
        photo = people.landing.files[name]
        people.say(photo, people.another_label(name), "Ann")
        people.say(photo, people.random.choice((*CLASSES, "cannot_tell")), "Bob")
    for word in people.random.sample(people.words, min(6, len(people.words))):
        people.say(people.landing.subjects[word.sha256], "undone", "Bob")


def corrects_answers(people: People) -> None:
    """Photos that were only ever asked of the endpoint join the corrections with their class; one of them lands later."""
    for _ in range(3):
        label = people.random.choice(CLASSES)
        photo = people.new_photo(label)
        people.say(photo, label, "Ann", sent=True)
    people.later(2, lambda: people.landing.put(f"{people.random.choice(CLASSES)}/asked_{people.night}.jpg", photo, people.now))


def another_seed(people: People) -> None:
    """The network is trained from other random weights from now on."""
    people.sections["training"]["seed"] = people.night


def longer_training(people: People) -> None:
    """Networks become better."""
    people.sections["training"]["epochs"] += 10


def kills_the_run(people: People) -> None:
    people.kills = True


def rolls_back(people: People) -> None:
    people.rolls_back = True


HABITS: tuple[Habit, ...] = (
    quiet_day,
    an_earlier_day_again,
    copies,
    copies_with_another_label,
    moves_to_another_label,
    moves,
    saves_some_again,
    saves_all_again,
    overwrites,
    overwrites_unnoticed,
    deletes,
    brings_back,
    class_away,
    folder_away,
    everything_away,
    alias_away,
    new_word,
    larger_photos_only,
    another_place,
    label_table,
    cannot_be_read,
    deletes_while_training,
    walks_around_a_car,
    broken_files,
    reviews_labels,
    disagrees_and_takes_back,
    corrects_answers,
    another_seed,
    longer_training,
    kills_the_run,
    rolls_back,
)
