"""Amounts of money as people write them: ``"1.5 NOR"``, ``"20 gwei"``, ``"7 wei"``.

Everything is exact: amounts are integers of wei, and text that is not a whole number of wei is refused, not
rounded. No float ever holds an amount.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from noria.primitives.types import UINT256_MAX, Wei

Unit = Literal["wei", "gwei", "NOR"]

DECIMALS: Final[dict[Unit, int]] = {"wei": 0, "gwei": 9, "NOR": 18}
"""Decimal places of each unit."""

MAX_TEXT_CHARACTERS: Final = 120
"""Longest text that is read: 78 digits of the largest amount, 18 decimal places and a unit fit well."""

_AMOUNT = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))? ?([A-Za-z]*)")
_UNITS: Final[dict[str, Unit]] = {unit.lower(): unit for unit in DECIMALS}


class InvalidAmount(ValueError):
    """Text or a number that is not an amount; base of the errors below."""


class MalformedAmount(InvalidAmount):
    """Not digits, optionally a point with more digits, and a unit."""


class UnknownUnit(InvalidAmount):
    """A unit that is missing, or none of wei, gwei and NOR."""


class FractionOfWei(InvalidAmount):
    """More decimal places than the unit has."""


class AmountOutOfRange(InvalidAmount):
    """Negative, or more than 256 bits of wei hold."""


def parse_amount(text: str, *, default_unit: Unit | None = None) -> Wei:
    """Read an amount.

    Parameters
    ----------
    text
        Digits, optionally a point and more digits, then after at most one space a unit (``wei``, ``gwei`` or
        ``NOR``, in any case of letters). No sign, exponent or grouping.
    default_unit
        Unit of a bare number. Without it the unit must be written.

    Returns
    -------
    Wei

    Raises
    ------
    InvalidAmount
        One of its subclasses, which says what is wrong.

    Examples
    --------
    >>> parse_amount("1.5 NOR")
    1500000000000000000
    >>> parse_amount("1.5 wei")
    Traceback (most recent call last):
    noria.primitives.amounts.FractionOfWei: '1.5 wei' is not a whole number of wei: wei has 0 decimal places
    """
    match = _AMOUNT.fullmatch(text) if len(text) <= MAX_TEXT_CHARACTERS else None
    if match is None:
        shown = ascii(text[:40]) + ("..." if len(text) > 40 else "")
        raise MalformedAmount(f"{shown} is not an amount; write one like '1.5 NOR', '20 gwei' or '7 wei'")
    whole, fraction, name = match[1], match[2] or "", match[3]
    unit = _UNITS.get(name.lower()) if name else default_unit
    if unit is None:
        raise UnknownUnit(f"{text!r} needs one of the units NOR, gwei or wei")
    decimals = DECIMALS[unit]
    fraction = fraction.rstrip("0")
    if len(fraction) > decimals:
        raise FractionOfWei(f"{text!r} is not a whole number of wei: {unit} has {decimals} decimal places")
    value = int(whole + fraction.ljust(decimals, "0"))
    if value > UINT256_MAX:
        raise AmountOutOfRange(f"{text!r} is more than 2^256 - 1 wei, the largest amount")
    return Wei(value)


def format_amount(value: Wei | int, unit: Unit | None = None) -> str:
    """Write an amount exactly, so that `parse_amount` gives it back.

    Parameters
    ----------
    value
        Wei, zero or more.
    unit
        Unit to write it in; by default the one that reads best: NOR from 0.001 NOR on, gwei from 0.001 gwei
        on, otherwise wei.

    Returns
    -------
    str

    Raises
    ------
    AmountOutOfRange
        Where `value` is negative or above 2^256 - 1.

    Examples
    --------
    >>> format_amount(1_500_000_000_000_000_000)
    '1.5 NOR'
    >>> format_amount(1_500_000_000)
    '1.5 gwei'
    """
    if not 0 <= value <= UINT256_MAX:
        raise AmountOutOfRange(f"{value} wei is not between 0 and 2^256 - 1, the largest amount")
    if unit is None:
        unit = "NOR" if value >= 10**15 or value == 0 else "gwei" if value >= 10**6 else "wei"
    decimals = DECIMALS[unit]
    whole, fraction = divmod(value, 10**decimals)
    places = f"{fraction:0{decimals}d}".rstrip("0") if fraction else ""
    return f"{whole}.{places} {unit}" if places else f"{whole} {unit}"
