"""`car-damage predict`: ask the endpoint about photos."""

from collections.abc import Callable, Sequence
from pathlib import Path

from car_damage.errors import RequestRefused
from car_damage.platform import Answer, Platform


def predict(platform: Platform, photos: Sequence[Path], say: Callable[[str], None] = print) -> list[Answer]:
    """Send all photos in one request, and say what the endpoint answers: one line a photo, then every class.

    Raises:
        RequestRefused: a file cannot be read, or the endpoint refuses one of the photos.
        Unavailable: no endpoint answers.
    """
    answers = platform.serving.ask([_read(photo) for photo in photos])
    for photo, answer in zip(photos, answers, strict=True):
        classes = ", ".join(f"{name} {probability:.3f}" for name, probability in answer.probabilities.items())
        say(f"{photo}: {answer.label} ({answer.probability:.1%}; {classes})")
    if answers:
        say(f"answered by {answers[0].served_by} in {answers[0].latency * 1000:.0f} ms")
    return answers


def _read(photo: Path) -> bytes:
    try:
        return photo.read_bytes()
    except OSError as error:
        raise RequestRefused(f"{photo} cannot be read: {error.strerror}; nothing was sent") from error
