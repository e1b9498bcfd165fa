"""The table of features: what a backbone sees in each photo, computed once.

A row belongs to the content of a photo, to a view of it (as it is, mirrored, ...), and to the digest of all that computed it: the
backbone with its weights, the decoder, and the packages. Rows of another digest are never used, and neither are damaged ones.

Pure: Arrow tables in, arrays and Arrow tables out.
"""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from car_damage.data import described

FEATURES = described.table(
    "What a backbone sees in each photo, so that a training computes it for new photos only. It may be removed.",
    [
        described.column("sha256", pa.string(), "SHA-256 of the file's bytes, in hexadecimal.", nullable=False),
        described.column(
            "view",
            pa.string(),
            "How the photo was shown: plain, mirrored, ... plain_by_keras: as plain, computed by Keras.",
            nullable=False,
        ),
        described.column("digest", pa.string(), "SHA-256 of all that computed the features: backbone, decoder, packages.", nullable=False),
        described.column("features", pa.list_(pa.float32()), "The backbone's features, averaged over the photo."),
    ],
)
KEY = ("sha256", "view", "digest")

Features = npt.NDArray[np.float32]


def found(
    table: pa.Table, digest: str, sha256s: Sequence[str], views: Sequence[str], length: int
) -> tuple[Features, npt.NDArray[np.bool_]]:
    """The features that the table has.

    A row with another number of features, or with one that is no number, counts as missing: it is computed again.

    Args:
        table: the columns of `FEATURES`.
        digest: of the rows that count.
        sha256s: (n) photos, all different.
        views: (v) views.
        length: features of a photo, d.

    Returns:
        (n, v, d) float32, and (n, v) bool: which of them were there. The others are NaN.
    """
    features = np.full((len(sha256s), len(views), length), np.nan, np.float32)
    if not table.num_rows:
        return features, np.zeros(features.shape[:2], bool)
    usable = pc.and_(pc.equal(table["digest"], digest), pc.equal(pc.list_value_length(table["features"]), length))
    rows = table.filter(usable)
    photos = pc.index_in(rows["sha256"], value_set=pa.array(sha256s, pa.string()))
    shown = pc.index_in(rows["view"], value_set=pa.array(views, pa.string()))
    wanted = pc.and_(pc.is_valid(photos), pc.is_valid(shown))
    values = pc.list_flatten(rows["features"].filter(wanted)).to_numpy().reshape(-1, length)
    features[photos.filter(wanted).to_numpy(), shown.filter(wanted).to_numpy()] = values
    return features, np.asarray(np.isfinite(features).all(axis=2))


def rows(digest: str, sha256s: Sequence[str], view: str, features: Features) -> pa.Table:
    """Rows of `FEATURES` for the features of photos in one view, (n, d)."""
    count, length = features.shape
    flat = pa.array(np.ascontiguousarray(features, np.float32).reshape(-1))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, (count + 1) * length, length, dtype=np.int32)), flat)
    columns = [pa.array(sha256s, pa.string()), pa.repeat(view, count), pa.repeat(digest, count), lists]
    return pa.table(columns, schema=FEATURES)


def superfluous(keys: pa.Table, digests: Collection[str], sha256s: Collection[str]) -> pa.Table:
    """The keys of rows of other digests, and of photos that are not among these.

    Args:
        keys: the columns `KEY`.
        digests: of the rows that are needed.
        sha256s: of the photos that silver has.
    """
    needed = pc.and_(
        pc.is_in(keys["digest"], value_set=pa.array(sorted(digests), pa.string())),
        pc.is_in(keys["sha256"], value_set=pa.array(sorted(sha256s), pa.string())),
    )
    return keys.filter(pc.invert(needed))
