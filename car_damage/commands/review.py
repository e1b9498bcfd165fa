"""`car-damage review`: what waits for a person, and a person's word about a photo. Needs neither tables nor Spark."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from car_damage.commands.terminal import printable
from car_damage.data.people import reviews
from car_damage.data.people.desk import Desk
from car_damage.data.people.reviews import Word
from car_damage.data.people.spoken import Statements
from car_damage.data.people.waiting import Waiting
from car_damage.errors import RequestRefused
from car_damage.machine import absolute
from car_damage.ports import Platform
from car_damage.settings import listed_below

_NOT_KEPT = (
    "answers.keep_for_review names no folder, so no photo is kept for a person. To keep them, write into car-damage.toml, under [answers]: "
    'keep_for_review = "/a/folder"'
)


def waiting(platform: Platform, as_json: bool, say: Callable[[str], None]) -> None:
    """Print what waits, largest doubt first."""
    found = _desk(platform).waiting()
    for one in found:
        if as_json:
            said = [_plain(word) for word in one.history]
            say(json.dumps({"sha256": one.sha256, **asdict(one.answer), "labelled": one.labelled, "history": said}))
        else:
            say(_line(one))
    if not found and not as_json:
        kept = platform.settings.answers.keep_for_review
        say("nothing waits" if kept else f"nothing waits: {_NOT_KEPT}")


def show(platform: Platform, photo: str, as_json: bool, say: Callable[[str], None]) -> None:
    """Print the answer to a photo, if it is kept, and what was said about it."""
    desk, (sha256, _) = _desk(platform), _photo(platform, photo)
    answer, said = desk.answer(sha256), desk.said(sha256)
    if as_json:
        say(json.dumps({"sha256": sha256, "answer": answer and asdict(answer), **_spoken(said)}))
        return
    say(_line(Waiting(sha256, answer)) if answer else f"{sha256}: no answer is kept")
    for word in said.history:
        say(f"  {word.said:%Y-%m-%d %H:%M} {printable(word.by)}: {word.label}{', which counts' if word is said.counts else ''}")


def take(platform: Platform, photo: str, label: str, by: str, say: Callable[[str], None]) -> None:
    """Take a word.

    Raises:
        RequestRefused: the label, the name or the photo cannot be used. Nothing was said.
        Unavailable: the word cannot be written. Nothing was said.
    """
    labels, (sha256, data) = platform.settings.labels, _photo(platform, photo)
    try:
        word = reviews.checked(label, labels.classes, labels.aliases)
        said = _desk(platform).take(sha256, word, by, photo=data)
    except ValueError as error:
        raise RequestRefused(f"nothing was said: {error}") from error
    counts = f"{said.counts.label} counts, said by {printable(said.counts.by)}" if said.counts else "no word is left"
    say(f"{sha256}: {word} noted; {counts}. The next run of retrain takes it up")


def _desk(platform: Platform) -> Desk:
    return Desk(platform.files, platform.settings.answers, platform.clock)


def _photo(platform: Platform, named: str) -> tuple[str, bytes | None]:
    """sha256 of a photo, and its bytes where they must join the corrections: no listing of the landing folder has the file."""
    sha256, data = named_photo(named)
    return sha256, None if listed_below(absolute(named), platform.settings.landing.folder) else data


def named_photo(named: str) -> tuple[str, bytes | None]:
    """sha256 of a photo that is named by it or by a file, and the bytes of the file.

    Raises:
        RequestRefused: it is neither.
    """
    path = Path(named)
    if path.is_file():
        data = path.read_bytes()
        return hashlib.sha256(data).hexdigest(), data
    if len(named) == 64 and set(named) <= set("0123456789abcdef"):
        return named, None
    raise RequestRefused(f"{printable(named)} is neither a file nor a photo's SHA-256 (64 hexadecimal digits in lower case)")


def _line(one: Waiting) -> str:
    answer = one.answer
    classes = ", ".join(f"{name} {probability:.3f}" for name, probability in answer.probabilities.items())
    who = f"answered by {answer.served_by}" if answer.served_by else "says a training that did not learn from it,"
    question = f"; its label is {printable(one.labelled)}: is this label right?" if one.labelled else ""
    return f"{one.sha256}: {answer.label} ({classes}), {who} at {answer.asked[:16]}{question}"


def _plain(word: Word) -> dict[str, object]:
    return asdict(word) | {"said": word.said.isoformat()}


def _spoken(said: Statements) -> dict[str, object]:
    return {"history": [_plain(word) for word in said.history], "counts": said.counts and said.counts.label}
