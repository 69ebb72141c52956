"""How arguments are read, and geth's words for those that cannot be."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from noria.rpc import params
from noria.rpc.errors import ParamError
from noria.rpc.params import BlockIdentifier, BlockRef, FilterObject

HASH_A = "0x" + "aa" * 32
HASH_B = "0x" + "bb" * 32
ADDRESS = "0x" + "11" * 20


@pytest.mark.parametrize(
    ("text", "value"), [("0x0", 0), ("0x1", 1), ("0xFf", 255), ("0x" + "f" * 16, 2**64 - 1)]
)
def test_quantity(text: str, value: int) -> None:
    assert params.quantity(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty hex string"),
        ("1", "hex string without 0x prefix"),
        ("0x", 'hex string "0x"'),
        ("0x01", "hex number with leading zero digits"),
        ("0xg", "invalid hex string"),
        ("0x1_0", "invalid hex string"),
        ("0x 1", "invalid hex string"),
        ("0x-1", "invalid hex string"),
        ("0x٣", "invalid hex string"),
        ("0x1" + "0" * 16, "hex number > 64 bits"),
        ("0x" + "f" * 100_000, "hex number > 64 bits"),
    ],
)
def test_bad_quantity(text: str, words: str) -> None:
    with pytest.raises(ParamError, match=f"^{words}$"):
        params.quantity(text)


def test_wide_quantity() -> None:
    assert params.quantity("0x" + "f" * 64, params.MAX_UINT256) == 2**256 - 1
    with pytest.raises(ParamError, match="256 bits"):
        params.quantity("0x1" + "0" * 64, params.MAX_UINT256)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty hex string"),
        ("00", "hex string without 0x prefix"),
        ("0x0", "hex string of odd length"),
        ("0xzz", "invalid hex string"),
        ("0x 0 0", "invalid hex string"),
    ],
)
def test_bad_data(text: str, words: str) -> None:
    with pytest.raises(ParamError, match=f"^{words}$"):
        params.data(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0x" + "1" * 38, "hex string has length 38, want 40 for address"),
        ("0x" + "1" * 42, "hex string has length 42, want 40 for address"),
        ("0x" + "1" * 39, "hex string of odd length"),
        ("1" * 40, "hex string without 0x prefix"),
        ("0x" + "z" * 40, "invalid hex string"),
        ("0x", "hex string has length 0, want 40 for address"),
    ],
)
def test_bad_address(text: str, words: str) -> None:
    with pytest.raises(ParamError, match=words):
        params.address(text)


@given(st.binary(max_size=64))
def test_data_round_trip(value: bytes) -> None:
    assert params.data("0x" + value.hex()) == value


@given(st.text(max_size=80) | st.text("0x123abcdefg _-+", max_size=80).map(lambda text: "0x" + text))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (
        params.quantity,
        params.data,
        params.address,
        params.hash32,
        params.storage_slot,
        params.block_ref,
    ):
        # Anything but ParamError fails the test.
        with suppress(ParamError):
            read(text)


@pytest.mark.parametrize(
    ("text", "last"), [("0x0", 0), ("0x5", 5), ("0x05", 5), ("0x" + "00" * 31 + "07", 7)]
)
def test_storage_slot_is_padded(text: str, last: int) -> None:
    assert params.storage_slot(text) == last.to_bytes(32, "big")


def test_storage_slot_too_long() -> None:
    with pytest.raises(ParamError, match="storage key too long"):
        params.storage_slot("0x" + "00" * 33)


@pytest.mark.parametrize(
    ("value", "number"), [(5, 5), ("5", 5), ("0x5", 5), ("0x0", 0), (2**64 - 1, 2**64 - 1)]
)
def test_hex_or_decimal(value: str | int, number: int) -> None:
    assert params.hex_or_decimal(value) == number


@pytest.mark.parametrize("value", [-1, 2**64, "", "-1", "1.5", "0x", "0x" + "f" * 17, "9" * 1_000_000, "²"])
def test_bad_hex_or_decimal(value: str | int) -> None:
    with pytest.raises(ParamError):
        params.hex_or_decimal(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("latest", BlockRef(tag="latest")),
        ("finalized", BlockRef(tag="finalized")),
        ("0x10", BlockRef(number=16)),
        (HASH_A, BlockRef(hash=b"\xaa" * 32)),
        (BlockIdentifier(blockNumber="0x1"), BlockRef(number=1)),
        (BlockIdentifier(blockNumber="safe"), BlockRef(tag="safe")),
        (BlockIdentifier(blockHash=HASH_A), BlockRef(hash=b"\xaa" * 32)),
        (
            BlockIdentifier(blockHash=HASH_A, requireCanonical=True),
            BlockRef(hash=b"\xaa" * 32, require_canonical=True),
        ),
    ],
)
def test_block_ref(value: str | BlockIdentifier, expected: BlockRef) -> None:
    assert params.block_ref(value) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("newest", "hex string without 0x prefix"),
        ("0x8000000000000000", "block number larger than int64"),
        (BlockIdentifier(), "neither"),
        (BlockIdentifier(blockNumber="0x1", blockHash=HASH_A), "cannot specify both"),
    ],
)
def test_bad_block_ref(value: str | BlockIdentifier, words: str) -> None:
    with pytest.raises(ParamError, match=words):
        params.block_ref(value)


def test_log_filter() -> None:
    found = params.log_filter(
        FilterObject(
            fromBlock="0x1",
            toBlock="latest",
            address=ADDRESS,
            topics=[None, HASH_A, [HASH_A, HASH_B], [HASH_A, None]],
        )
    )
    assert found.first == BlockRef(number=1)
    assert found.last == BlockRef(tag="latest")
    assert found.addresses == (b"\x11" * 20,)
    # A null among alternatives matches everything, as in geth.
    assert found.topics == (None, (b"\xaa" * 32,), (b"\xaa" * 32, b"\xbb" * 32), None)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (FilterObject(blockHash=HASH_A, fromBlock="0x1"), "cannot specify both BlockHash and FromBlock"),
        (FilterObject(topics=[None] * 5), "exceed max topics"),
        (FilterObject(topics=[[HASH_A] * 1_001]), "exceed max topics"),
        (FilterObject(address=[ADDRESS] * 1_001), "exceed max addresses"),
        (FilterObject(address="0x12"), "want 40 for address"),
        (FilterObject(topics=["0x12"]), "want 64 for hash"),
        (FilterObject(fromBlock="yesterday"), "hex string without 0x prefix"),
    ],
)
def test_bad_log_filter(value: FilterObject, words: str) -> None:
    with pytest.raises(ParamError, match=words):
        params.log_filter(value)


def test_largest_log_filter_is_taken() -> None:
    found = params.log_filter(FilterObject(address=[ADDRESS] * 1_000, topics=[[HASH_A] * 1_000] * 4))
    assert len(found.addresses) == 1_000


@pytest.mark.parametrize(
    ("text", "kind"), [(b"[]", "an array"), (b'"x"', "a string"), (b"1", "a number"), (b"true", "a boolean")]
)
def test_json_object_refuses_other_kinds(text: bytes, kind: str) -> None:
    with pytest.raises(ParamError, match=f"expected an object, got {kind}"):
        params.json_object(Raw(text))


def test_json_object_passes_bytes() -> None:
    assert params.json_object(Raw(b'{"to":"0x"}')) == b'{"to":"0x"}'
    assert params.json_object(Raw(b"null")) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([101.0], "invalid reward percentile: 101"),
        ([5.0, 5.0], "#0:5.0 >= #1:5.0"),
        ([0.1] * 101, "query limit 100"),
    ],
)
def test_bad_percentiles(values: list[float], words: str) -> None:
    convert: Any = params.PercentilesArg.__metadata__[0].convert  # type: ignore[attr-defined]
    with pytest.raises(ParamError, match=words):
        convert(values)
