import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from car_damage.data.photos.digests import digests, firsts, order, places

alike = st.tuples(st.sampled_from(["0" * 16, "f" * 16, "0123456789abcdef"]), st.sampled_from("0f7"), st.sampled_from("0f")).map(
    lambda drawn: drawn[0] + drawn[1] * 32 + drawn[2] * 16
)
"""sha256 of which many begin with the same 16 digits."""


def column(texts):
    middle = len(texts) // 2
    return pa.chunked_array([pa.array(texts[:middle], pa.string()), pa.array(texts[middle:], pa.string())])


@settings(max_examples=100, deadline=None)
@given(st.lists(alike, max_size=30))
def test_the_order_is_that_of_the_text_and_stable(texts):
    assert order(digests(column(texts))).tolist() == sorted(range(len(texts)), key=lambda row: texts[row])


@settings(max_examples=100, deadline=None)
@given(st.lists(alike, max_size=30))
def test_the_first_row_of_a_content_is_the_smallest(texts):
    assert firsts(digests(column(texts))).tolist() == [texts.index(text) for text in texts]


@settings(max_examples=100, deadline=None)
@given(st.lists(alike, max_size=30), st.lists(alike, max_size=20, unique=True))
def test_the_place_of_a_content_is_where_the_text_is(texts, among):
    assert places(digests(column(texts)), digests(column(among))).tolist() == [among.index(t) if t in among else -1 for t in texts]


def test_the_numbers_are_the_bytes_of_the_digest_also_of_a_slice():
    texts = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(200_000)]
    found = digests(column(["0" * 64, *texts]).slice(1))
    assert [row.astype(">u8").tobytes().hex() for row in found[::997]] == texts[::997]


def test_a_null_is_zeros_and_does_not_move_the_others():
    found = digests(column([None, "f" * 64, None]))
    assert np.array_equal(found, [[0] * 4, [2**64 - 1] * 4, [0] * 4])


@pytest.mark.parametrize("text", ["", "f" * 63, "F" * 64, "g" * 64, "f" * 128])
def test_a_text_that_is_no_sha256_is_an_error(text):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        digests(column(["0" * 64, text]))
