"""The strict reader takes exactly what RLP's encoder writes, and never costs more than its input."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.wire import (
    FieldOutOfRange,
    FieldTooLong,
    InvalidMessage,
    MessageTooLong,
    NotCanonical,
    Reader,
    TooManyItems,
    WrongShape,
)
from noria.primitives import rlp
from noria.primitives.rlp import InvalidEncoding, RlpItem, integer_to_bytes

items = st.recursive(st.binary(max_size=70), lambda children: st.lists(children, max_size=5), max_leaves=20)


def tree(data: bytes) -> RlpItem:
    """The whole item, read field by field."""
    reader = Reader(data, "x", 0, len(data))
    raw = reader.raw("item", max_bytes=len(data))
    reader.close()
    if raw[0] < 0xC0:
        return Reader(data, "x", 0, len(data)).blob("item", max_bytes=len(data))
    inner, found = Reader.open(data, "x", max_bytes=len(data)), list[RlpItem]()
    while not inner.at_end:
        found.append(tree(inner.raw("item", max_bytes=len(data))))
    return found


@given(items)
def test_what_the_encoder_writes_is_read(item: RlpItem) -> None:
    assert tree(rlp.encode(item)) == item


@given(st.binary(max_size=40) | st.builds(lambda item: rlp.encode(item), items), st.data())
def test_it_takes_and_refuses_what_the_decoder_does(data: bytes, more: st.DataObject) -> None:
    if data and more.draw(st.booleans()):
        at = more.draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([more.draw(st.integers(0, 255))]) + data[at + 1 :]
    try:
        expected: RlpItem | None = rlp.decode(data)
    except InvalidEncoding:
        expected = None
    try:
        found: RlpItem | None = tree(data)
    except InvalidMessage:
        found = None
    assert found == expected


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("", WrongShape),  # nothing
        ("05", WrongShape),  # bytes, no list
        ("c0c0", WrongShape),  # two lists
        ("c1", NotCanonical),  # cut off
        ("c28101", NotCanonical),  # a small byte with a length
        ("c3b80101", NotCanonical),  # a short length written long
        ("f80101", NotCanonical),
        ("f90038" + "00" * 56, NotCanonical),  # leading zeros in a length
        ("f8", NotCanonical),
        ("c2b838", NotCanonical),  # a length beyond the end
        ("ffffffffffffffffff", NotCanonical),
        ("c9bfffffffffffffffff", NotCanonical),
    ],
)
def test_what_is_not_canonical_is_refused(data: str, error: type[InvalidMessage]) -> None:
    with pytest.raises(error):
        Reader.open(bytes.fromhex(data), "message", max_bytes=100).blob("field", max_bytes=100)


def fields(*values: RlpItem) -> Reader:
    return Reader.open(rlp.encode(list(values)), "message", max_bytes=1000)


def test_each_bound_has_its_error() -> None:
    with pytest.raises(MessageTooLong, match="message: 3 bytes, at most 2"):
        Reader.open(rlp.encode([b"ab"])[:3], "message", max_bytes=2)
    with pytest.raises(FieldTooLong, match="a has 3 bytes, 2 are allowed"):
        fields(b"abc").fixed("a", 2)
    with pytest.raises(FieldTooLong, match="a has 3 bytes, 0 to 2 are allowed"):
        fields(b"abc").blob("a", max_bytes=2)
    with pytest.raises(FieldTooLong, match="a has 9 bytes"):
        fields(b"\x01" + bytes(8)).integer("a", 64)
    with pytest.raises(NotCanonical, match="leading zeros"):
        fields(b"\x00\x01").integer("a", 64)
    with pytest.raises(FieldOutOfRange, match="a is 16"):
        fields(b"\x10").integer("a", 4)
    with pytest.raises(FieldOutOfRange, match="a is 0, not 1"):
        fields(b"").integer("a", 64, least=1)
    with pytest.raises(FieldTooLong, match="a has 5 bytes, at most 3"):
        fields([b"abc"]).raw("a", max_bytes=3)
    with pytest.raises(WrongShape, match="a is a list where bytes"):
        fields([b""]).blob("a", max_bytes=10)
    with pytest.raises(WrongShape, match="a is bytes where a list"):
        fields(b"").list("a")
    reader = fields(b"")
    reader.blob("a", max_bytes=1)
    with pytest.raises(WrongShape, match="b is missing"):
        reader.blob("b", max_bytes=1)
    with pytest.raises(WrongShape, match="1 bytes are left"):
        fields(b"").close()
    with pytest.raises(TooManyItems, match="more than 2 rows"):
        list(fields([[], [], []]).lists("rows", max_items=2))
    with pytest.raises(WrongShape, match=r"rows\[0\]: 1 bytes are left"):
        list(fields([[b""]]).lists("rows", max_items=2))


@given(st.integers(0, 2**64 - 1))
def test_integers_of_the_full_width_are_read(value: int) -> None:
    assert fields(integer_to_bytes(value)).integer("a", 64) == value


def test_a_list_of_lists_costs_its_reader_nothing() -> None:
    data = rlp.encode([[b""] * 1_000_000])
    tracemalloc.start()
    with pytest.raises(WrongShape):
        Reader.open(data, "message", max_bytes=len(data)).blob("a", max_bytes=10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
