import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqshm import headers
from mqshm.errors import InvalidMessage, SegmentCorrupt

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()


@given(st.dictionaries(st.text(), VALUES))
def test_what_is_encoded_comes_back_with_its_types(mapping):
    back = headers.decode(headers.encode(mapping))
    assert back == mapping
    assert list(back) == list(mapping)
    assert [type(value) for value in back.values()] == [type(value) for value in mapping.values()]


def test_a_float_that_is_no_number_comes_back():
    assert math.isnan(headers.decode(headers.encode({"x": math.nan}))["x"])


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_called_corrupt(data):
    try:
        headers.decode(data)
    except SegmentCorrupt:
        pass


@given(st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=3), st.data())
def test_a_cut_encoding_is_never_read_past_its_end(mapping, data):
    encoded = headers.encode(mapping)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    try:
        assert len(headers.decode(encoded[:cut])) < len(mapping)
    except SegmentCorrupt:
        pass


@pytest.mark.parametrize(
    "mapping",
    [
        {1: "x"},
        {"a": object()},
        {"a": [1]},
        {"a": {}},
        {"x" * 70_000: 1},
        {"a": 1 << 3000},
        {"\ud800": 1},
        {"a": "\ud800"},
    ],
)
def test_what_cannot_be_a_header_is_refused(mapping):
    with pytest.raises(InvalidMessage):
        headers.encode(mapping)


def test_headers_that_are_no_mapping_are_a_type_error():
    with pytest.raises(TypeError, match="list"):
        headers.encode([("a", 1)])


def test_small_headers_stay_small():
    assert len(headers.encode({"trace": "0123456789abcdef"})) == 2 + 5 + 1 + 4 + 16
