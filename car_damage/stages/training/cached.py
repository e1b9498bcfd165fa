"""The features that a version's backbone has seen in photos, as far as the table of features has them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.photos import features as table
from car_damage.model.networks.views import PLAIN
from car_damage.ports import Platform, Where


def features_of(sha256s: pa.ChunkedArray, digest: str, fewest: int, platform: Platform) -> npt.NDArray[np.float32] | None:
    """The features of those of these photos that the table knows, (m, d); None for fewer than `fewest`.

    The features themselves are read only where there are enough of them: a row has some kB.
    """
    name = platform.settings.tables.features
    of_backbone = Where("digest", among=[digest])
    keys, _ = platform.tables.read(name, table.KEY, where=of_backbone)
    if len(_wanted(keys, sha256s)) < fewest:
        return None
    rows = _wanted(platform.tables.read(name, table.FEATURES.names, where=of_backbone)[0], sha256s)
    length = len(rows["features"][0])
    found, there = table.found(rows, digest, rows["sha256"].to_pylist(), (PLAIN,), length)
    return np.asarray(found[there[:, 0], 0])


def _wanted(rows: pa.Table, sha256s: pa.ChunkedArray) -> pa.Table:
    wanted = pc.is_in(rows["sha256"].cast(pa.string()), value_set=pc.unique(sha256s.drop_null()))
    return rows.filter(pc.and_(wanted, pc.equal(rows["view"].cast(pa.string()), PLAIN)))
