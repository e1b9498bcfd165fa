"""Stops a run before it believes that an implausible share of the known photos is gone.

A folder that is not mounted looks like a folder whose photos were removed, and an alias that is missing in the settings like a class
that nobody uses any more. Either would put a model live that does not know a class.
"""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from car_damage.errors import LandingLost
from car_damage.ports import Loss


def losses(known: pa.ChunkedArray, gone: pa.ChunkedArray) -> tuple[Loss, ...]:
    """Count the loss over all, then of each class.

    Args:
        known: (n) the label of each known photo; null: it has none.
        gone: (m) the labels of those of them that are gone.
    """
    before, lost = _counts(known), _counts(gone)
    by_class = (Loss(label, before[label], lost[label]) for label in sorted(name for name in before if name is not None))
    return Loss(None, len(known), len(gone)), *by_class


def shrinkage(before: pa.ChunkedArray, after: pa.ChunkedArray) -> tuple[Loss, ...]:
    """By how many photos all of them, and each class, have become fewer. A photo that another one replaces is no loss.

    Args:
        before: (n) labels.
        after: (m) labels.
    """
    now = _counts(after)
    by_class = (Loss(label, count, max(0, count - now[label])) for label, count in sorted(_counts(before).items()))
    return Loss(None, len(before), max(0, len(before) - len(after))), *by_class


def check(lost: Sequence[Loss], max_share: float, where: str, advice: str) -> None:
    """Stop when too much is gone.

    Args:
        lost: over all and by class.
        max_share: the share that may be gone, of all and of each class: `landing.max_vanished_share`.
        where: completes "known photos have vanished".
        advice: what a person does who removed them on purpose.

    Raises:
        LandingLost: more is gone.
    """
    overall, *by_class = lost
    too_many = [loss for loss in by_class if _exceeds(loss, max_share)]
    if not too_many and not _exceeds(overall, max_share):
        return
    told = [f"{loss.gone:,} of the {loss.known:,} that are labelled {loss.label}" for loss in too_many]
    if _exceeds(overall, max_share):
        told = [f"{overall.gone:,} of all {overall.known:,}", *told]
    raise LandingLost(
        f"too many known photos have vanished {where}: {' and '.join(told)}; landing.max_vanished_share allows {max_share:.0%} of all, and "
        f"of each class. {advice}"
    )


def _exceeds(loss: Loss, max_share: float) -> bool:
    return loss.gone > max_share * loss.known


def _counts(labels: pa.ChunkedArray) -> Counter[str | None]:
    return Counter({row["values"]: row["counts"] for row in pc.value_counts(labels).to_pylist()})
