"""`car-damage predict`: send photos to the endpoint and print its predictions."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from car_damage.commands.terminal import printable
from car_damage.data.answers.claims import Photo, claim_of, possible
from car_damage.errors import PhotoRefused, Unavailable
from car_damage.patience import Patience, log_retry
from car_damage.ports import Platform, Prediction

Answer = Prediction | PhotoRefused
"""To a photo, or why there is none."""
_ROW = re.compile(r"\brow (\d+)(?=:)")
"""How an endpoint names a photo: by its place in the request."""


def predict(platform: Platform, photos: Sequence[Path], as_json: bool, say: Callable[[str], None], *, claim: bool = False) -> None:
    """Send all photos in one request and print one line for each, with the probabilities of all classes.

    A photo of a claim that cannot be read, or that the endpoint refuses, gets a line that says so, and the others are asked without it.

    Args:
        platform: has the endpoint.
        photos: files.
        as_json: print one JSON object a line.
        say: prints a line.
        claim: the photos are those of one claim. Another line says what they say together.

    Waits while the endpoint starts a model, for `serving.request_timeout` seconds at most.

    Raises:
        PhotoRefused: without `claim`: a file cannot be read, or the endpoint refuses one of the photos.
        RequestRefused: the endpoint refuses the request, whatever the photos.
        Unavailable: the endpoint is not there, has failed, or did not become ready in time.
    """
    answers = _of_a_claim(platform, photos) if claim else _of_all(platform, photos)
    for photo, answer in zip(photos, answers, strict=True):
        say(json.dumps({"path": str(photo), **_columns(answer)}) if as_json else f"{printable(str(photo))}: {_words(answer)}")
    if claim:
        say(_together(photos, answers, platform.settings.labels.classes, as_json))
    if not as_json and (given := [answer for answer in answers if isinstance(answer, Prediction)]):
        say(f"answered by {given[0].served_by} in {given[0].latency * 1000:.0f} ms")


def _of_all(platform: Platform, photos: Sequence[Path]) -> Sequence[Answer]:
    """From one request."""
    with files_named(photos):
        return asked(platform, [read(photo) for photo in photos])


@contextmanager
def files_named(photos: Sequence[Path]) -> Iterator[None]:
    """A refusal of one of these photos names its file."""
    try:
        yield
    except PhotoRefused as error:
        names = {str(number): printable(str(photo)) for number, photo in enumerate(photos)}
        raise PhotoRefused(_ROW.sub(lambda row: names.get(row[1], row[0]), str(error))) from error


def _of_a_claim(platform: Platform, photos: Sequence[Path]) -> Sequence[Answer]:
    """From one request, or, if one of the photos has no answer, from one for each."""
    try:
        return asked(platform, [read(photo) for photo in photos])
    except PhotoRefused as error:
        return [error] if len(photos) == 1 else [one for photo in photos for one in _of_a_claim(platform, [photo])]


def _columns(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, PhotoRefused):
        return {"refused": str(answer)}
    found = {name: getattr(answer, name) for name in ("label", "probability", "probabilities", "classes", "review", "served_by")}
    return found | {"probabilities": dict(answer.probabilities)}


def _words(answer: Answer) -> str:
    if isinstance(answer, PhotoRefused):
        return f"no answer: {printable(str(answer))}"
    classes = ", ".join(f"{name} {probability:.3f}" for name, probability in answer.probabilities.items())
    return f"{answer.label} ({answer.probability:.1%}; {classes}){_for_a_person(answer)}"


def _together(photos: Sequence[Path], answers: Sequence[Answer], classes: Sequence[str], as_json: bool) -> str:
    """The line of the claim."""
    of = claim_of([Photo(str(path), _possible(answer)) for path, answer in zip(photos, answers, strict=True)], classes)
    if as_json:
        return json.dumps({"claim": of.label, "review": of.review, "shown_by": of.shown_by, "undecided": of.undecided})
    shown = f"{of.label}, shown by {', '.join(map(printable, of.shown_by))}" if of.label else "no photo is decided"
    look = f"; a person must look at {', '.join(map(printable, of.undecided))}" if of.review else ""
    return f"the claim: {shown}{look}"


def _possible(answer: Answer) -> tuple[str, ...]:
    return () if isinstance(answer, PhotoRefused) else possible(answer.label, answer.classes or (), answer.review)


def asked(platform: Platform, photos: Sequence[bytes], *, explain: bool = False) -> list[Prediction]:
    """The endpoint's answers, in order. Waits and raises as `predict` does."""
    settings = platform.settings.serving

    def waiting(error: Unavailable, seconds: float) -> None:
        state = platform.serving.state()
        if not state.exists or state.failed:
            raise error
        log_retry(error, seconds)

    patiently = Patience(platform.clock, [settings.poll], settings.request_timeout, waiting)
    return patiently(partial(platform.serving.query, explain=explain), photos)


def _for_a_person(answer: Prediction) -> str:
    """That a person must look, and why; empty if nobody must."""
    if not answer.review:
        return ""
    why = f"it may be {' or '.join(answer.classes)}" if answer.classes else "less sure than of photos of any class"
    return f"; a person must look: {why}"


def read(photo: Path) -> bytes:
    """A photo's file. Raises PhotoRefused if it cannot be read."""
    try:
        return photo.read_bytes()
    except OSError as error:
        raise PhotoRefused(f"{photo} cannot be read: {error.strerror}") from error
