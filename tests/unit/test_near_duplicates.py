import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from car_damage.data.photos import near_duplicates

BITS = st.integers(0, 8)


@st.composite
def crowded_hashes(draw):
    """Hashes a few flipped bits away from a few centres, so that many of them are close to each other."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
    flips = st.lists(st.integers(0, 63), max_size=7)
    values = draw(st.lists(st.tuples(st.sampled_from(centres), flips), max_size=40))
    hashes = []
    for centre, bits in values:
        hashes.append(functools.reduce(lambda value, bit: value ^ (1 << bit), bits, centre))
    return np.unique(np.array(hashes, np.uint64))


@pytest.fixture(params=[1, 7, 1 << 18], autouse=True)
def _blocks(request, monkeypatch):
    """The number of hashes compared at once must not change the result."""
    monkeypatch.setattr(near_duplicates, "_CELLS", request.param)


def close(hashes, others, bits):
    return np.bitwise_count(hashes[:, None] ^ others[None, :]) <= bits


def groups_by_all_pairs(hashes, bits):
    groups = np.arange(len(hashes))
    pairs = close(hashes, hashes, bits)
    for _ in hashes:
        groups = np.array([groups[row].min() for row in pairs], np.int64)
    return groups


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crowded_hashes(), BITS)
def test_groups_are_those_that_comparing_all_pairs_finds(hashes, bits):
    assert near_duplicates.components(hashes, bits).tolist() == groups_by_all_pairs(hashes, bits).tolist()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(crowded_hashes(), crowded_hashes(), BITS, st.randoms(use_true_random=False))
def test_a_hash_is_touched_by_every_flag_that_comparing_all_pairs_finds(hashes, others, bits, random):
    others = np.concatenate([others, hashes[::3] ^ np.uint64(1)])
    flags = np.array([random.choice([1, 2, 4]) for _ in others], np.uint8)
    expected = [int(np.bitwise_or.reduce(flags[row], initial=0)) for row in close(hashes, others, bits)]
    assert near_duplicates.touched(hashes, others, flags, bits).tolist() == expected


@pytest.mark.parametrize("apart", [0, 7, 8, 9, 10])
def test_the_distance_is_inclusive_wherever_the_bits_are(apart):
    random = np.random.default_rng(apart)
    for _ in range(50):
        one = random.integers(0, 2**64, dtype=np.uint64)
        other = one
        for bit in random.choice(64, apart, replace=False):
            other ^= np.uint64(1) << np.uint64(bit)
        touched = near_duplicates.touched(np.array([one]), np.array([other]), np.array([4], np.uint8), 8)
        assert touched.tolist() == [4 if apart <= 8 else 0]


def test_a_crowd_of_thousands_is_one_group_without_comparing_every_pair(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_CELLS", 1 << 18)
    random = np.random.default_rng(5)
    crowd = np.full(20_000, 0x0F0F_1234_5678_9ABC, np.uint64)
    for _ in range(4):
        crowd ^= np.uint64(1) << random.integers(0, 64, len(crowd)).astype(np.uint64)
    crowd = np.unique(crowd)
    compared = 0
    count = np.bitwise_count

    def counting(values):
        nonlocal compared
        compared += np.size(values)
        return count(values)

    monkeypatch.setattr(np, "bitwise_count", counting)
    assert not near_duplicates.components(crowd, 8).any()
    near_duplicates.touched(crowd[::2], crowd[1::2], np.ones(len(crowd) // 2, np.uint8), 8)
    assert 0 < compared < len(crowd) ** 2 / 10


def test_no_hashes_have_no_groups():
    nothing = np.array([], np.uint64)
    assert near_duplicates.components(nothing, 8).tolist() == []
    assert near_duplicates.touched(nothing, np.array([1], np.uint64), np.array([1], np.uint8), 8).tolist() == []
    assert near_duplicates.touched(np.array([1], np.uint64), nothing, np.array([], np.uint8), 8).tolist() == [0]


def test_hashes_that_look_like_one_of_another_split_are_counted_and_no_others():
    apart = [0, 0xFFFF_FFFF, 0xFFFF_0000_FFFF_0000]
    hashes = np.array(
        [hash_ ^ change for hash_, change in zip(apart, (0b1111, 2**9 - 1, 1), strict=True) for change in (0, change)], np.uint64
    )
    splits = np.array([1, 2, 1, 2, 4, 4], np.uint8)
    assert near_duplicates.in_two_splits(hashes, splits, 8) == 2
    assert near_duplicates.in_two_splits(hashes, splits, 3) == 0
    assert near_duplicates.in_two_splits(hashes[:0], splits[:0], 8) == 0


def test_pairs_that_share_a_single_band_are_found_in_a_full_bucket():
    random = np.random.default_rng(3)
    ones = random.integers(0, 2**64, 200, dtype=np.uint64) >> np.uint64(7) << np.uint64(7)
    edges = [64 * band // 9 for band in range(1, 9)]
    others = ones ^ np.uint64(sum(1 << edge for edge in edges))
    groups = near_duplicates.components(np.unique(np.concatenate([ones, others])), 8)
    assert np.unique(groups, return_counts=True)[1].tolist() == [2] * 200
