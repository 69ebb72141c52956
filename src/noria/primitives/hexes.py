"""Hexadecimal text as Ethereum's JSON writes it, read as strictly as geth reads it.

A *quantity* is an integer without leading zeros (``"0x0"``, ``"0x41"``); *data* are bytes with two digits
each (``"0x"``, ``"0x0041"``). Errors begin with geth's words, so that clients which look for them find them.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

MAX_DATA_BYTES: Final = 16 << 20
"""Most bytes that `parse_data` reads unless told otherwise."""

_DIGITS = re.compile(r"[0-9a-fA-F]+")
_SHOWN_CHARACTERS = 40


class InvalidHex(ValueError):
    """Text that is not the hexadecimal form asked for; base of the errors below."""


class NotText(InvalidHex):
    """Not a string at all."""


class EmptyText(InvalidHex):
    """An empty string."""


class MissingPrefix(InvalidHex):
    """No ``0x`` at the beginning."""


class NotHexDigits(InvalidHex):
    """Something else than 0-9, a-f and A-F after the prefix."""


class OddLength(InvalidHex):
    """Data with half a byte."""


class WrongLength(InvalidHex):
    """Data of another size than expected, or longer than allowed."""


class EmptyQuantity(InvalidHex):
    """A quantity without a digit; zero is ``"0x0"``."""


class LeadingZeros(InvalidHex):
    """A quantity with zeros before its first digit."""


class OutOfRange(InvalidHex):
    """A quantity wider than the field it is for."""


def parse_quantity(text: object, *, bits: int = 256) -> int:
    """Read a quantity.

    Parameters
    ----------
    text
        Value from outside; anything but a string is refused.
    bits
        Width of the field in bits.

    Returns
    -------
    int
        From 0 to ``2**bits - 1``.

    Raises
    ------
    InvalidHex
        One of its subclasses, which says what is wrong.

    Examples
    --------
    >>> parse_quantity("0x400")
    1024
    >>> parse_quantity("0x0400")
    Traceback (most recent call last):
    noria.primitives.hexes.LeadingZeros: hex number with leading zero digits: '0x0400'
    """
    digits = _after_prefix(text)
    if not digits:
        raise EmptyQuantity('hex string "0x" has no digit; zero is "0x0"')
    if digits[0] == "0" and len(digits) > 1:
        raise LeadingZeros(f"hex number with leading zero digits: {_shown(text)}")
    # Before the digits are looked at: reading them takes time and memory that grow with their count.
    if len(digits) > (bits + 3) // 4:
        raise OutOfRange(f"hex number > {bits} bits: {_shown(text)}")
    if not _DIGITS.fullmatch(digits):
        raise NotHexDigits(f"invalid hex string: {_shown(text)}")
    value = int(digits, 16)
    if value >> bits:
        raise OutOfRange(f"hex number > {bits} bits: {_shown(text)}")
    return value


def format_quantity(value: int) -> str:
    """Write a quantity.

    Parameters
    ----------
    value
        Zero or more.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For a negative integer.

    Examples
    --------
    >>> format_quantity(1024), format_quantity(0)
    ('0x400', '0x0')
    """
    if value < 0:
        raise ValueError(f"{value} is negative and has no hexadecimal quantity")
    return f"{value:#x}"


def parse_data(text: object, *, size: int | None = None, max_bytes: int = MAX_DATA_BYTES) -> bytes:
    r"""Read data.

    Parameters
    ----------
    text
        Value from outside; anything but a string is refused.
    size
        The one size in bytes that is taken, e.g. 32 for a hash; any if absent.
    max_bytes
        Most bytes taken.

    Returns
    -------
    bytes

    Raises
    ------
    InvalidHex
        One of its subclasses, which says what is wrong.

    Examples
    --------
    >>> parse_data("0x0041")
    b'\x00A'
    >>> parse_data("0x0041", size=32)
    Traceback (most recent call last):
    noria.primitives.hexes.WrongLength: hex string has length 4, want 64: '0x0041'
    """
    digits = _after_prefix(text)
    if size is not None and len(digits) != 2 * size:
        raise WrongLength(f"hex string has length {len(digits)}, want {2 * size}: {_shown(text)}")
    if len(digits) % 2:
        raise OddLength(f"hex string of odd length: {_shown(text)}")
    if size is None and len(digits) > 2 * max_bytes:
        raise WrongLength(
            f"hex string has length {len(digits)}, at most {2 * max_bytes} is read: {_shown(text)}"
        )
    try:
        # Unlike `bytes.fromhex` this refuses white space between the digits.
        return binascii.unhexlify(digits)
    except ValueError:
        raise NotHexDigits(f"invalid hex string: {_shown(text)}") from None


def format_data(data: bytes) -> str:
    r"""Write data, digits in lower case.

    Parameters
    ----------
    data
        Any number of bytes.

    Returns
    -------
    str

    Examples
    --------
    >>> format_data(b"\x00A"), format_data(b"")
    ('0x0041', '0x')
    """
    return "0x" + data.hex()


def _after_prefix(text: object) -> str:
    if not isinstance(text, str):
        raise NotText(f"expected a hex string, got {type(text).__name__}")
    if not text:
        raise EmptyText("empty hex string")
    if text[:2] not in ("0x", "0X"):
        raise MissingPrefix(f"hex string without 0x prefix: {_shown(text)}")
    return text[2:]


def _shown(text: object) -> str:
    """Quote the beginning with all but plain ASCII escaped: error texts reach logs and terminals."""
    quoted = ascii(str(text)[:_SHOWN_CHARACTERS])
    return quoted if len(str(text)) <= _SHOWN_CHARACTERS else f"{quoted}..."
