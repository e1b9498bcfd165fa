"""The views of a photo from which a head learns: the photo as it is, and changed in ways that leave its class as it is."""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

PLAIN = "plain"
VIEWS: "MappingProxyType[str, Callable[[Pixels], Pixels]]" = MappingProxyType(
    {PLAIN: lambda photos: photos, "mirrored": lambda photos: photos[:, :, ::-1]}
)
"""Name -> (n, 224, 224, 3) uint8 to the same. Features are kept by these names: a view that changes needs another name."""


def chosen(*, augment: bool) -> tuple[str, ...]:
    """The views of a training. The first one is the photo as the served model gets it."""
    return tuple(VIEWS) if augment else (PLAIN,)
