from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.primitives import hexes
from noria.primitives.hexes import (
    InvalidHex,
    format_data,
    format_quantity,
    parse_data,
    parse_quantity,
)


@given(st.integers(0, 2**256 - 1))
def test_quantities_go_both_ways(value: int) -> None:
    assert parse_quantity(format_quantity(value)) == value


@given(st.binary(max_size=200))
def test_data_go_both_ways(data: bytes) -> None:
    text = format_data(data)
    assert parse_data(text) == data
    assert parse_data("0X" + text[2:].upper()) == data


any_text = st.text(max_size=20) | st.text("0123456789abcdefABCDEFxX_ +-\n", max_size=20).map("0x".__add__)


@given(any_text)
def test_any_text_is_no_quantity_or_the_text_of_one(text: str) -> None:
    try:
        value = parse_quantity(text)
    except InvalidHex:
        return
    assert format_quantity(value) == text.lower()


@given(any_text)
def test_any_text_is_no_data_or_the_text_of_some(text: str) -> None:
    try:
        data = parse_data(text)
    except InvalidHex:
        return
    assert format_data(data) == text.lower()


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", hexes.EmptyText, "empty hex string"),
        ("0x", hexes.EmptyQuantity, 'hex string "0x"'),
        ("0", hexes.MissingPrefix, "hex string without 0x prefix: '0'"),
        ("400", hexes.MissingPrefix, "hex string without 0x prefix"),
        ("ff", hexes.MissingPrefix, "hex string without 0x prefix"),
        ("x1", hexes.MissingPrefix, "hex string without 0x prefix"),
        ("-0x1", hexes.MissingPrefix, "hex string without 0x prefix"),
        (" 0x1", hexes.MissingPrefix, "hex string without 0x prefix"),
        ("0x00", hexes.LeadingZeros, "hex number with leading zero digits"),
        ("0x0400", hexes.LeadingZeros, "hex number with leading zero digits: '0x0400'"),
        ("0xzz", hexes.NotHexDigits, "invalid hex string"),
        ("0x1_0", hexes.NotHexDigits, "invalid hex string"),
        ("0x-1", hexes.NotHexDigits, "invalid hex string"),
        ("0x1 ", hexes.NotHexDigits, "invalid hex string"),
        ("0x1\n", hexes.NotHexDigits, "invalid hex string"),
        ("0x\u0661", hexes.NotHexDigits, "invalid hex string"),
        ("0x1" + "0" * 64, hexes.OutOfRange, "hex number > 256 bits"),
        (1024, hexes.NotText, "expected a hex string, got int"),
        (None, hexes.NotText, "expected a hex string, got NoneType"),
        (["0x1"], hexes.NotText, "expected a hex string, got list"),
    ],
)
def test_wrong_quantities_are_named(text: object, error: type[InvalidHex], words: str) -> None:
    with pytest.raises(error) as caught:
        parse_quantity(text)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("bits", [8, 63, 64, 256])
def test_quantities_end_at_their_width(bits: int) -> None:
    assert parse_quantity(hex(2**bits - 1), bits=bits) == 2**bits - 1
    with pytest.raises(hexes.OutOfRange, match=f"> {bits} bits"):
        parse_quantity(hex(2**bits), bits=bits)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", hexes.EmptyText, "empty hex string"),
        ("00", hexes.MissingPrefix, "hex string without 0x prefix"),
        ("0x0", hexes.OddLength, "hex string of odd length: '0x0'"),
        ("0x0g", hexes.NotHexDigits, "invalid hex string"),
        ("0x0 0 ", hexes.NotHexDigits, "invalid hex string"),
        ("0x\u00e9\u00e9", hexes.NotHexDigits, r"invalid hex string: '0x\xe9\xe9'"),
        (b"0x00", hexes.NotText, "expected a hex string, got bytes"),
    ],
)
def test_wrong_data_are_named(text: object, error: type[InvalidHex], words: str) -> None:
    with pytest.raises(error) as caught:
        parse_data(text)
    assert str(caught.value).startswith(words)


def test_data_of_one_size_take_no_other() -> None:
    assert parse_data("0x" + "ab" * 32, size=32) == b"\xab" * 32
    assert parse_data("0x", size=0) == b""
    for digits in (0, 62, 63, 65, 66):
        with pytest.raises(hexes.WrongLength, match=f"hex string has length {digits}, want 64"):
            parse_data("0x" + "a" * digits, size=32)


def test_data_end_at_the_limit() -> None:
    assert parse_data("0x" + "ab" * 10, max_bytes=10) == b"\xab" * 10
    with pytest.raises(hexes.WrongLength, match="has length 22, at most 20"):
        parse_data("0x" + "ab" * 11, max_bytes=10)


def test_errors_quote_little_of_a_long_text_and_nothing_a_terminal_would_obey() -> None:
    with pytest.raises(InvalidHex) as caught:
        parse_data("0x\x1b[2J" + "z" * 100_001)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_negative_integers_have_no_quantity() -> None:
    with pytest.raises(ValueError, match="-1 is negative"):
        format_quantity(-1)
