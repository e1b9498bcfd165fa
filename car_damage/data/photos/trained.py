"""The photos that a model was trained on, and which test photos a model has therefore seen.

Each training run keeps its list, which includes that of the version from whose weights it has started. A model has seen a test photo if the
photo, or one that looks like it, was in the train or the validation split of its training: on the first it learned, by the second its best
epoch was chosen.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data.photos import near_duplicates
from car_damage.data.photos.splits import TRAIN, VALIDATION

COLUMNS = ("sha256", "phash", "label", "split")
"""The columns of a list, as in silver."""


def trained_photos(silver: pa.Table) -> pa.Table:
    """The list of a training on these rows of silver, which have `COLUMNS` among their columns."""
    return silver.filter(pc.is_in(silver["split"], value_set=pa.array([TRAIN, VALIDATION]))).select(list(COLUMNS))


def with_inherited(photos: pa.Table, inherited: pa.Table) -> pa.Table:
    """The list of a training that has started from the weights of a version, whose list is `inherited`: it has learned from both."""
    inherited = inherited.select(photos.column_names).cast(photos.schema)
    return pa.concat_tables([photos, inherited.filter(pc.invert(pc.is_in(inherited["sha256"], value_set=photos["sha256"])))])


def seen(photos: pa.Table, lists: Sequence[pa.Table], bits: int) -> npt.NDArray[np.bool_]:
    """Whether each photo is on one of the lists, or looks like a photo on one of them.

    Args:
        photos: sha256 and phash of (n) photos.
        lists: as `trained_photos` makes them; sha256 and phash are enough.
        bits: largest distance of two hashes that look alike, `split.near_duplicate_bits`.

    Returns:
        (n,) bool.
    """
    if not lists:
        return np.zeros(photos.num_rows, bool)
    trained = pa.concat_tables([one.select(["sha256", "phash"]) for one in lists])
    alike = near_duplicates.touched(
        near_duplicates.unsigned(photos["phash"]), near_duplicates.unsigned(trained["phash"]), np.ones(trained.num_rows, np.uint8), bits
    )
    return np.asarray(pc.is_in(photos["sha256"], value_set=trained["sha256"])) | (alike > 0)
