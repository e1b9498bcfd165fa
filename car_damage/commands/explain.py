"""`car-damage explain`: a picture of where in a photo the model sees the damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from car_damage.commands.predict import asked, files_named, read
from car_damage.commands.terminal import printable
from car_damage.errors import RequestRefused
from car_damage.photo.decoder import Photo, decode
from car_damage.photo.thumbnails import drawn
from car_damage.ports import Platform

SIDE = 640
"""Pixels of the picture's longer side, at most."""
_OPAQUE = 0.75
"""Opacity where most speaks for the damage."""


def explain(platform: Platform, photo: Path, to: Path | None, say: Callable[[str], None]) -> None:
    """Ask the endpoint about a photo, and write a picture of it: the redder a place, the more it speaks for damage of this class or worse.

    Args:
        platform: has the endpoint.
        photo: the file.
        to: the picture, a JPEG. None: beside the photo, as `_<name>-explained.jpg`: listings of photos skip names with such a
            beginning. A file that is there is replaced.
        say: prints a line.

    Raises what `predict` raises, and:
        RequestRefused: the model cannot say where, or the picture cannot be written.
    """
    data = read(photo)
    with files_named([photo]):
        [answer] = asked(platform, [data], explain=True)
    if answer.map is None:
        raise RequestRefused(f"{answer.served_by} cannot say where it sees damage: it was registered by an earlier release. Run retrain")
    to = to or photo.with_name(f"_{photo.stem}-explained.jpg")
    try:
        to.write_bytes(picture(decode(data, platform.settings.images.limits()), np.array(answer.map)))
    except OSError as error:
        raise RequestRefused(f"{to} cannot be written: {error.strerror}") from error
    say(f"{printable(str(photo))}: {answer.label} ({answer.probability:.1%}); {printable(str(to))} shows where")


def picture(photo: Photo, seen: np.ndarray) -> bytes:
    """A JPEG of a photo as the network sees it, with a map over it, (h, w) from 0 to 1: yellow, and red where it is 1."""
    side = photo.pixels.shape[0]
    opacity = Image.fromarray(np.uint8(255 * _OPAQUE * seen)).resize((side, side), Image.Resampling.BICUBIC)
    heat = np.stack([np.full_like(seen, 255), 200 * (1 - seen), np.zeros_like(seen)], axis=-1)
    colour = Image.fromarray(np.uint8(heat)).resize((side, side), Image.Resampling.BICUBIC)
    over = Image.composite(colour, Image.fromarray(photo.pixels), opacity)
    return drawn(np.asarray(over), photo.width, photo.height, SIDE)
