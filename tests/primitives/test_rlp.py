from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria._core import NoriaError
from noria.primitives import rlp
from noria.primitives.rlp import InvalidEncoding, RlpItem

items: st.SearchStrategy[RlpItem] = st.recursive(
    st.binary(max_size=80), lambda inner: st.lists(inner, max_size=8), max_leaves=40
)

# Bytes that begin like RLP more often than uniform ones do.
prefixes = st.sampled_from(
    [0x00, 0x7F, 0x80, 0x81, 0x82, 0xB7, 0xB8, 0xB9, 0xBF, 0xC0, 0xC1, 0xC2, 0xF7, 0xF8, 0xF9, 0xFF]
)
rlp_like = st.lists(prefixes | st.integers(0, 255), max_size=48).map(bytes)


def nested(depth: int) -> RlpItem:
    item: RlpItem = []
    for _ in range(depth - 1):
        item = [item]
    return item


@given(items)
def test_what_was_encoded_decodes_to_the_same(item: RlpItem) -> None:
    assert rlp.decode(rlp.encode(item)) == item


@given(st.binary(max_size=300) | rlp_like)
def test_any_bytes_are_refused_or_are_the_one_encoding_of_what_they_decode_to(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except InvalidEncoding:
        return
    assert rlp.encode(item) == data


@given(items, st.data())
def test_no_prefix_and_no_extension_of_an_encoding_decodes(item: RlpItem, data: st.DataObject) -> None:
    encoded = rlp.encode(item)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(InvalidEncoding):
        rlp.decode(encoded[:cut])
    with pytest.raises(InvalidEncoding):
        rlp.decode(encoded + data.draw(st.binary(min_size=1, max_size=3)))


@pytest.mark.parametrize(
    ("size", "start"),
    [
        (0, "80"),
        (2, "82"),
        (55, "b7"),
        (56, "b838"),
        (255, "b8ff"),
        (256, "b90100"),
        (65535, "b9ffff"),
        (65536, "ba010000"),
    ],
)
def test_lengths_change_form_at_their_boundaries(size: int, start: str) -> None:
    data = b"\xaa" * size
    assert rlp.encode(data) == bytes.fromhex(start) + data
    as_list: RlpItem = [b"\x01"] * size
    list_start = bytes([int(start[:2], 16) + 0x40]) + bytes.fromhex(start[2:])
    assert rlp.encode(as_list) == list_start + b"\x01" * size
    assert rlp.decode(rlp.encode(as_list)) == as_list


def test_depth_is_bounded_in_both_directions() -> None:
    deepest = rlp.encode(nested(1024))
    # Encoded again, because Python compares nested lists only as deep as its recursion limit.
    assert rlp.encode(rlp.decode(deepest)) == deepest
    with pytest.raises(InvalidEncoding, match="1024"):
        rlp.encode(nested(1025))
    deeper = bytes([0xF7 + 2]) + len(deepest).to_bytes(2, "big") + deepest
    with pytest.raises(InvalidEncoding, match="1024"):
        rlp.decode(deeper)


def test_a_list_inside_itself_is_refused() -> None:
    endless: list[RlpItem] = []
    endless.append(endless)
    with pytest.raises(InvalidEncoding):
        rlp.encode(endless)


def test_a_length_of_exabytes_costs_nothing() -> None:
    with pytest.raises(InvalidEncoding):
        rlp.decode(b"\xbf\x7f" + b"\xff" * 7 + b"\x00" * 20)


def test_many_small_items_decode() -> None:
    payload = b"\xc0" * 200_000
    item = rlp.decode(b"\xfa" + len(payload).to_bytes(3, "big") + payload)
    assert item == [[]] * 200_000


def test_input_longer_than_asked_for_is_refused() -> None:
    encoded = rlp.encode(b"\xaa" * 100)
    assert rlp.decode(encoded, max_bytes=len(encoded)) == b"\xaa" * 100
    with pytest.raises(InvalidEncoding, match="102 bytes of RLP; at most 101"):
        rlp.decode(encoded, max_bytes=len(encoded) - 1)
    with pytest.raises(InvalidEncoding, match=str(rlp.MAX_DECODE_BYTES)):
        rlp.decode(bytes(rlp.MAX_DECODE_BYTES + 1))


@pytest.mark.parametrize("bad", ["text", 5, None, {}, [b"", 1], [b"", ["text"]], 1.5])
def test_only_bytes_and_lists_encode(bad: Any) -> None:
    with pytest.raises((TypeError, NoriaError)):
        rlp.encode(bad)


@given(st.integers(0, 2**256 - 1))
def test_integers_go_both_ways(value: int) -> None:
    data = rlp.integer_to_bytes(value)
    assert data[:1] != b"\x00"
    assert rlp.bytes_to_integer(data) == value


def test_integers_that_are_not_canonical_are_refused() -> None:
    for bad in (b"\x00", b"\x00\x01"):
        with pytest.raises(InvalidEncoding, match="leading zeros"):
            rlp.bytes_to_integer(bad)
    assert rlp.bytes_to_integer(b"\xff" * 8, max_bytes=8) == 2**64 - 1
    with pytest.raises(InvalidEncoding, match="9 bytes; at most 8"):
        rlp.bytes_to_integer(b"\x01" * 9, max_bytes=8)
    with pytest.raises(ValueError, match="-1 is negative"):
        rlp.integer_to_bytes(-1)
