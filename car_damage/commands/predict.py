"""`car-damage predict`: ask the endpoint about photos."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from car_damage.commands.terminal import printable
from car_damage.errors import RequestRefused
from car_damage.ports import Platform


def predict(platform: Platform, photos: Sequence[Path], as_json: bool, say: Callable[[str], None]) -> None:
    """Send all photos in one request, and say what the endpoint answers: one line a photo, with every class.

    Raises:
        RequestRefused: a file cannot be read, or the endpoint refuses one of the photos.
        Unavailable: no endpoint answers.
    """
    answers = platform.serving.query([_read(photo) for photo in photos])
    for photo, answer in zip(photos, answers, strict=True):
        if as_json:
            told = {"path": str(photo), "label": answer.label, "probability": answer.probability}
            say(json.dumps({**told, "probabilities": dict(answer.probabilities), "served_by": answer.served_by}))
            continue
        classes = ", ".join(f"{name} {probability:.3f}" for name, probability in answer.probabilities.items())
        say(f"{printable(str(photo))}: {answer.label} ({answer.probability:.1%}; {classes})")
    if not as_json:
        say(f"answered by {answers[0].served_by} in {answers[0].latency * 1000:.0f} ms")


def _read(photo: Path) -> bytes:
    try:
        return photo.read_bytes()
    except OSError as error:
        raise RequestRefused(f"{photo} cannot be read: {error.strerror}; nothing was sent") from error
