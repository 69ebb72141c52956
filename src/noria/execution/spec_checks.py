"""How values of a chain specification are read and bounded; the first that is wrong is named."""

from __future__ import annotations

from noria.primitives.addresses import parse_address
from noria.primitives.amounts import parse_amount
from noria.primitives.hexes import parse_data, parse_quantity
from noria.primitives.types import Address, Wei


class SpecError(Exception):
    """A chain specification that cannot be used; one line: which field, what is wrong with it, what to do."""


def quote(text: str) -> str:
    """Show text from outside: escaped, and never longer than a line."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def read_bytes(where: str, text: str, size: int | None = None) -> bytes:
    """Read hexadecimal with ``0x``; raise `SpecError`."""
    try:
        return parse_data(text, size=size)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from error


def read_address(where: str, text: str) -> Address:
    """Read an address; raise `SpecError`."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from error


def read_nonce(where: str, text: str) -> int:
    """Read a quantity of 64 bits; raise `SpecError`."""
    try:
        return parse_quantity(text, bits=64)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from error


def read_amount(where: str, text: str) -> Wei:
    """Read an amount such as ``"1.5 NOR"``, or a quantity of wei; raise `SpecError`."""
    try:
        return Wei(parse_quantity(text)) if text.startswith("0x") else parse_amount(text)
    except ValueError as error:
        raise SpecError(f"{where}: {error}") from error


def check_range(where: str, value: int, least: int, most: int, hint: str = "") -> None:
    """Refuse a number outside its bounds."""
    if not least <= value <= most:
        shown = str(value) if abs(value) < 10**30 else "the number"
        raise SpecError(f"{where}: {shown} is not within {least} and {most}" + (f": {hint}" if hint else ""))


def check_length(where: str, value: bytes, least: int, most: int) -> None:
    """Refuse bytes that are too short or too long."""
    if not least <= len(value) <= most:
        allowed = f"{least}" if least == most else f"{least} to {most}"
        raise SpecError(f"{where}: has {len(value)} bytes, {allowed} are allowed")
