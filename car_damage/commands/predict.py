"""`car-damage predict`: send photos to the endpoint and print its predictions."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from car_damage.commands.terminal import printable
from car_damage.data.answers.claims import Photo, claim_of, possible
from car_damage.errors import RequestRefused, Unavailable
from car_damage.patience import Patience, log_retry
from car_damage.ports import Platform, Prediction


def predict(platform: Platform, photos: Sequence[Path], as_json: bool, say: Callable[[str], None], *, claim: bool = False) -> None:
    """Send all photos in one request and print one line for each, with the probabilities of all classes.

    Args:
        platform: has the endpoint.
        photos: files.
        as_json: print one JSON object a line.
        say: prints a line.
        claim: the photos are those of one claim. Another line says what they say together.

    Waits while the endpoint starts a model, for `serving.request_timeout` seconds at most.

    Raises:
        RequestRefused: a file cannot be read, or the endpoint refuses one of the photos.
        Unavailable: the endpoint is not there, has failed, or did not become ready in time.
    """
    answers = asked(platform, [read(photo) for photo in photos])
    for photo, answer in zip(photos, answers, strict=True):
        if as_json:
            prediction = {"path": str(photo), "label": answer.label, "probability": answer.probability}
            prediction |= {"probabilities": dict(answer.probabilities), "classes": answer.classes, "review": answer.review}
            say(json.dumps({**prediction, "served_by": answer.served_by}))
            continue
        classes = ", ".join(f"{name} {probability:.3f}" for name, probability in answer.probabilities.items())
        say(f"{printable(str(photo))}: {answer.label} ({answer.probability:.1%}; {classes}){_for_a_person(answer)}")
    if claim:
        say(_together(photos, answers, platform.settings.labels.classes, as_json))
    if not as_json:
        say(f"answered by {answers[0].served_by} in {answers[0].latency * 1000:.0f} ms")


def _together(photos: Sequence[Path], answers: Sequence[Prediction], classes: Sequence[str], as_json: bool) -> str:
    """The line of the claim."""
    said = zip(photos, answers, strict=True)
    of = claim_of([Photo(str(path), possible(one.label, one.classes or (), one.review)) for path, one in said], classes)
    if as_json:
        return json.dumps({"claim": of.label, "review": of.review, "shown_by": of.shown_by, "undecided": of.undecided})
    shown = f"{of.label}, shown by {', '.join(map(printable, of.shown_by))}" if of.label else "no photo is decided"
    look = f"; a person must look at {', '.join(map(printable, of.undecided))}" if of.review else ""
    return f"the claim: {shown}{look}"


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
    return f"; a person must look: it may be {' or '.join(answer.classes)}" if answer.classes else "; a person must look: like no class"


def read(photo: Path) -> bytes:
    """A photo's file. Raises RequestRefused if it cannot be read."""
    try:
        return photo.read_bytes()
    except OSError as error:
        raise RequestRefused(f"{photo} cannot be read: {error.strerror}; nothing was sent") from error
