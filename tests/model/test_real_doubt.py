"""On real photos, at least half of the labels that are wrong on purpose are among the 4 % about which people are asked."""

from pathlib import Path

import numpy as np

from benchmarks import doubt


def test_half_of_the_wrong_labels_are_found(place: Path) -> None:
    assert np.mean(list(doubt.shares(place, range(3)))) >= 0.5
