"""The header of a photo, which every format's reader returns, and the errors of unusable photos."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from car_damage.errors import UnusablePhoto
from car_damage.photo.reasons import TRUNCATED


@dataclass(frozen=True)
class Header:
    """The properties of a photo that are known before its pixels are decoded."""

    format: str
    width: int
    """Pixels as stored, before applying the orientation."""
    height: int
    load: Callable[[], Image.Image]
    """Decodes all pixels; a JPEG at the smallest scale that is not below SIZE."""
    orientation: int = 1
    """EXIF, 1 to 8."""
    profile: bytes = b""
    """The ICC profile of its colours; empty if it has none."""
    alone: bool = False
    """Whether no other photo may be decoded meanwhile: its decoder uses all cores, and the header does not limit its memory."""
    largest: tuple[int, int] = (0, 0)
    """Width and height of the largest picture in the file, if it can be larger than the photo."""
    reduced: Callable[[int], Image.Image] | None = None
    """Of a JPEG: `load`, at a scale that has this number of pixels too."""

    @property
    def upright(self) -> tuple[int, int]:
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def unusable(reason: str, detail: str) -> UnusablePhoto:
    """The error for a reason of `car_damage.photo.reasons`. The detail is cut to 200 characters."""
    return UnusablePhoto(f"{reason}: {' '.join(detail.split())[:200]}")


def ends_early() -> Image.Image:
    """A `Header.load` that raises UnusablePhoto, for a file that ends before its pixels do."""
    raise unusable(TRUNCATED, "the file ends before its last chunk")
