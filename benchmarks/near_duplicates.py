"""Time to find near-duplicates among 100,000 photos by bands of their hashes. The baseline compares all pairs with numpy.

Comparing all pairs of 100,000 takes long, so the baseline compares a twentieth of the rows with all others and extrapolates.
"""

import time

import numpy as np

from car_damage.data.photos import near_duplicates

PHOTOS = 100_000
BITS = 8


def run(photos: int = PHOTOS) -> list[dict[str, object]]:
    hashes = np.unique(resembling(photos))
    start = time.perf_counter()
    groups = near_duplicates.components(hashes, BITS)
    value = time.perf_counter() - start
    assert len(np.unique(groups)) < len(hashes)

    sample = len(hashes) // 20
    start = time.perf_counter()
    for one in hashes[:sample]:
        near_duplicates.near(hashes, one, BITS).any()
    # Halved, because each pair needs only one comparison.
    baseline = (time.perf_counter() - start) * len(hashes) / sample / 2
    return [
        {
            "name": f"near-duplicates among {photos:,} photos",
            "value": round(value, 2),
            "unit": "s",
            "baseline": f"all pairs by numpy, {baseline:.1f} s",
            "ratio": round(value / baseline, 3),
        }
    ]


def resembling(photos: int) -> near_duplicates.Hashes:
    """Random hashes. A fifth resemble another one, at a distance of one to eight bits."""
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, photos, dtype=np.uint64)
    alike = photos // 5
    for _ in range(BITS):
        hashes[:alike] ^= np.uint64(1) << random.integers(0, 64, alike).astype(np.uint64)
        hashes[:alike] = np.where(random.random(alike) < 0.2, hashes[alike : 2 * alike], hashes[:alike])
    return hashes


if __name__ == "__main__":
    for row in run():
        print(row)
