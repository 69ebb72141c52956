"""Sets of unit numbers, which mostly come one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import msgspec

RANGES_MAX: Final = 65_536
"""Most ranges of a set: a requester who scatters its numbers takes no more memory than that."""

_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[int, int]])


class TooScattered(ValueError):
    """A number that would make one range too many."""


class NumberSet:
    """Numbers from 0 on, held as ranges.

    Examples
    --------
    >>> numbers = NumberSet()
    >>> for number in (3, 1, 2, 9):
    ...     numbers.add(number)
    >>> 2 in numbers, 4 in numbers, list(numbers.ranges())
    (True, False, [(1, 3), (9, 9)])
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._firsts, number) - 1
        return place >= 0 and number <= self._lasts[place]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges())

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Return (first, last) of each range, in order."""
        return zip(self._firsts, self._lasts, strict=True)

    def has_room(self, count: int = 1) -> bool:
        """Tell whether any so many numbers may be added."""
        return len(self._firsts) + count <= RANGES_MAX

    def add(self, number: int) -> None:
        """Add a number; one that is there changes nothing.

        Raises
        ------
        TooScattered
            Where that would make one range too many.
        """
        place = bisect_right(self._firsts, number) - 1
        if place >= 0 and number <= self._lasts[place]:
            return
        joins_left = place >= 0 and self._lasts[place] == number - 1
        joins_right = place + 1 < len(self._firsts) and self._firsts[place + 1] == number + 1
        if joins_left and joins_right:
            self._lasts[place] = self._lasts.pop(place + 1)
            del self._firsts[place + 1]
        elif joins_left:
            self._lasts[place] = number
        elif joins_right:
            self._firsts[place + 1] = number
        elif self.has_room():
            self._firsts.insert(place + 1, number)
            self._lasts.insert(place + 1, number)
        else:
            raise TooScattered(f"unit numbers in more than {RANGES_MAX} pieces: count them up one by one")

    def encode(self) -> bytes:
        """Return the set for keeping."""
        return msgspec.msgpack.encode(list(self.ranges()))


def decode_numbers(data: bytes) -> NumberSet:
    """Read a set back.

    Raises
    ------
    ValueError
        Where these are not a set's bytes.
    """
    found = NumberSet()
    try:
        ranges = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no set of numbers: {error}") from None
    if len(ranges) > RANGES_MAX or any(first > last or first < 0 for first, last in ranges):
        raise ValueError("no set of numbers: its ranges are none")
    if any(next_first <= last + 1 for (_, last), (next_first, _) in pairwise(ranges)):
        raise ValueError("no set of numbers: its ranges are not in order")
    found._firsts = [first for first, _ in ranges]
    found._lasts = [last for _, last in ranges]
    return found
