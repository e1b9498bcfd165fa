"""On real photos, at least half of the labels that are wrong on purpose are among the 4 % about which people are asked."""

import numpy as np
import pytest

from benchmarks import doubt, real_photos, trials_features


def test_half_of_the_wrong_labels_are_found() -> None:
    place = real_photos.folder()
    if place is None:
        pytest.skip(f"no real photos at {real_photos.FOLDER}")
    if not doubt.kept():
        pytest.skip(f"no features in {trials_features.KEPT}, which cost minutes: python -m benchmarks doubt writes them")
    assert np.mean(list(doubt.shares(place, range(3)))) >= 0.5
