"""The features that a version's backbone has seen in photos, as far as the table of features has them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.photos import features as table
from car_damage.model.networks.views import PLAIN
from car_damage.monitoring.drift import FEWEST, MOST
from car_damage.ports import Platform, Where

SHARE = 0.8
"""Of the photos that are asked for, the table must have so many. It has those that somebody has labelled, and where these are few, they
are no sample of the others."""


def features_of(sha256s: pa.ChunkedArray, digest: str, platform: Platform) -> npt.NDArray[np.float32] | None:
    """The features, (m, d), that the table has of these photos, of which MOST are chosen at random. None where it has those of fewer than
    FEWEST, or of less than SHARE of the chosen ones.
    """
    there = np.sort(pc.unique(sha256s.drop_null()).to_numpy(zero_copy_only=False))
    chosen = np.random.default_rng(0).permutation(there)[:MOST].tolist()
    rows, _ = platform.tables.read(platform.settings.tables.features, table.FEATURES.names, where=Where("sha256", among=chosen))
    of_view = pc.and_(pc.equal(rows["view"].cast(pa.string()), PLAIN), pc.equal(rows["digest"].cast(pa.string()), digest))
    rows = rows.filter(of_view)
    if rows.num_rows < max(FEWEST, SHARE * len(chosen)):
        return None
    found, known = table.found(rows, digest, rows["sha256"].to_pylist(), (PLAIN,), len(rows["features"][0]))
    return np.asarray(found[known[:, 0], 0])
