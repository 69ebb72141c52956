from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.primitives import amounts
from noria.primitives.amounts import DECIMALS, InvalidAmount, Unit, format_amount, parse_amount
from noria.primitives.types import GWEI, NOR, UINT256_MAX

values = st.integers(0, UINT256_MAX) | st.integers(0, 10**20)
units: st.SearchStrategy[Unit] = st.sampled_from(list(DECIMALS))


@given(values, st.none() | units)
def test_amounts_go_both_ways_exactly(value: int, unit: Unit | None) -> None:
    assert parse_amount(format_amount(value, unit)) == value


@given(
    st.text(max_size=30) | st.from_regex(r"[0-9]{1,80}(\.[0-9]{0,20})? ?(wei|GWEI|nor|eth)?", fullmatch=True)
)
def test_any_text_is_refused_or_means_what_exact_decimals_say(text: str) -> None:
    try:
        value = parse_amount(text)
    except InvalidAmount:
        return
    number = text.lower().rstrip("gweinor ")
    unit = next(unit for unit in ("gwei", "wei", "nor") if text.lower().endswith(unit))
    places = {"gwei": 9, "wei": 0, "nor": 18}[unit]
    # Text of an exact decimal, so that no precision of a context rounds it.
    sign, digits, exponent = Decimal(number).as_tuple()
    assert sign == 0
    assert isinstance(exponent, int)
    assert value * 10 ** -min(exponent + places, 0) == int("".join(map(str, digits))) * 10 ** max(
        exponent + places, 0
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0 NOR", 0),
        ("0.0 wei", 0),
        ("1 wei", 1),
        ("7wei", 7),
        ("20 gwei", 20 * GWEI),
        ("1.5 NOR", 3 * NOR // 2),
        ("1.50 nor", 3 * NOR // 2),
        ("3.0 wei", 3),
        ("0.000000000000000001 NOR", 1),
        ("0.000000001 gwei", 1),
        ("0.1 NOR", 10**17),
        (f"{UINT256_MAX} wei", UINT256_MAX),
    ],
)
def test_amounts_are_read(text: str, value: int) -> None:
    assert parse_amount(text) == value


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", amounts.MalformedAmount),
        ("NOR", amounts.MalformedAmount),
        ("1,5 NOR", amounts.MalformedAmount),
        ("1_000 NOR", amounts.MalformedAmount),
        ("1e18 wei", amounts.MalformedAmount),
        ("-1 NOR", amounts.MalformedAmount),
        ("+1 NOR", amounts.MalformedAmount),
        (".5 NOR", amounts.MalformedAmount),
        ("5. NOR", amounts.MalformedAmount),
        ("01 NOR", amounts.MalformedAmount),
        ("1  NOR", amounts.MalformedAmount),
        (" 1 NOR", amounts.MalformedAmount),
        ("1 NOR\n", amounts.MalformedAmount),
        ("\u0661 NOR", amounts.MalformedAmount),
        ("nan NOR", amounts.MalformedAmount),
        ("1" * 200 + " wei", amounts.MalformedAmount),
        ("1", amounts.UnknownUnit),
        ("1.5", amounts.UnknownUnit),
        ("1 ETH", amounts.UnknownUnit),
        ("1 noria", amounts.UnknownUnit),
        ("1.5 wei", amounts.FractionOfWei),
        ("0.0000000001 gwei", amounts.FractionOfWei),
        ("0.0000000000000000001 NOR", amounts.FractionOfWei),
        (f"{UINT256_MAX + 1} wei", amounts.AmountOutOfRange),
        (f"{UINT256_MAX} NOR", amounts.AmountOutOfRange),
    ],
)
def test_wrong_amounts_are_named_and_quoted(text: str, error: type[InvalidAmount]) -> None:
    with pytest.raises(error) as caught:
        parse_amount(text)
    assert ascii(text[:30])[1:-1] in str(caught.value)
    assert len(str(caught.value)) < 250


def test_a_bare_number_has_the_unit_that_the_caller_names() -> None:
    assert parse_amount("1.5", default_unit="NOR") == 3 * NOR // 2
    assert parse_amount("7", default_unit="wei") == 7
    assert parse_amount("7 gwei", default_unit="NOR") == 7 * GWEI


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 NOR"),
        (1, "1 wei"),
        (10**6 - 1, "999999 wei"),
        (10**6, "0.001 gwei"),
        (GWEI, "1 gwei"),
        (10**15 - 1, "999999.999999999 gwei"),
        (10**15, "0.001 NOR"),
        (10_000 * NOR, "10000 NOR"),
        (NOR + 1, "1.000000000000000001 NOR"),
    ],
)
def test_amounts_are_written_in_the_unit_that_reads_best(value: int, text: str) -> None:
    assert format_amount(value) == text


@pytest.mark.parametrize("value", [-1, UINT256_MAX + 1])
def test_amounts_outside_the_range_are_not_written(value: int) -> None:
    with pytest.raises(amounts.AmountOutOfRange, match=str(value)):
        format_amount(value)
