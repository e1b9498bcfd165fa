"""Shows where in a photo a model sees the damage: what speaks for damage that is at least as severe as the answer, place by place.

A network that decides on the means of its maps says it itself (see `car_damage.model.networks.activation`). Others are asked again, with a
part of the photo hidden each time: where hiding lowers the probability most, the damage was seen (Zeiler, Fergus, Visualizing and
understanding convolutional networks, 2014).

A copy of this module is part of every model, so it imports only numpy.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

GRID = 7
"""Places a side at which a part of the photo is hidden, for a network that answers in less time than its photo is decoded."""
COARSE = 3
"""The same for all others: with the answer, a map is ten calls."""
_HIDDEN = 2
"""The side of the hidden part, in places: damage on the border of two places is hidden whole by one of them."""
DIGITS = 3

Pixels = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float64]
"""(h, w) from 0 to 1, the first row at the top of the upright photo. Each cell is the same share of its height and width."""


def from_network(said: npt.NDArray[np.floating], label: int) -> Map:
    """The map from what a network says of each place, (h, w, classes), for the class that it has answered."""
    return _relative(np.asarray(said[:, :, label], np.float64))


def by_hiding(photo: Pixels, label: int, answer: Callable[[list[Pixels]], npt.NDArray[np.floating]], grid: int, batch: int) -> Map:
    """The map from a network's answers to a photo with hidden parts.

    Args:
        photo: (s, s, 3).
        label: number of the class that it has answered. Classes are in the order of severity.
        answer: n photos, (s, s, 3) -> (n, classes) probabilities.
        grid: places a side.
        batch: photos in one call, at most.
    """
    hidden = list(_with_hidden_parts(photo, grid))
    answers = np.concatenate([answer(hidden[at : at + batch]) for at in range(0, len(hidden), batch)])
    severe = answers[:, max(label, 1) :].sum(axis=1)
    return _relative(-np.asarray(severe, np.float64).reshape(grid, grid))


def _with_hidden_parts(photo: Pixels, grid: int) -> Iterator[Pixels]:
    side = photo.shape[0]
    mean = photo.mean(axis=(0, 1)).astype(np.uint8)
    reach = _HIDDEN * side / grid / 2
    centres = [(number + 0.5) * side / grid for number in range(grid)]
    for down in centres:
        for right in centres:
            hidden = photo.copy()
            hidden[_span(down, reach, side), _span(right, reach, side)] = mean
            yield hidden


def _span(centre: float, reach: float, side: int) -> slice:
    return slice(max(round(centre - reach), 0), min(round(centre + reach), side))


def _relative(said: Map) -> Map:
    """From 0 where least speaks for the damage to 1 where most does; 0 everywhere if all places are the same."""
    span = said.max() - said.min()
    return np.round((said - said.min()) / span, DIGITS) if span > 0 else np.zeros_like(said)
