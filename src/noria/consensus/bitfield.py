"""Who of an ordered set, as the bits of one integer: bit i is row i of a snapshot (protocol 4.7)."""

from __future__ import annotations

from collections.abc import Iterable


def bits_of(positions: Iterable[int]) -> int:
    """Return the integer whose bits at these positions are set.

    Examples
    --------
    >>> bits_of([0, 3])
    9
    """
    bits = 0
    for position in positions:
        bits |= 1 << position
    return bits


def positions_of(bits: int) -> list[int]:
    """Return where bits are set, ascending.

    Examples
    --------
    >>> positions_of(9)
    [0, 3]
    """
    # Linear in the bits, where shifting the integer once per bit would be quadratic.
    return [position for position, digit in enumerate(reversed(f"{bits:b}")) if digit == "1"]
