"""Strict RLP read by schema: what a peer sends costs no more memory than its own bytes.

`noria.primitives.rlp.decode` builds the whole tree before anybody looks at it, and a list of empty lists
costs the reader 64 times what it costs its sender. Here a decoder says which field it expects next and how
long it may be; nothing is built that was not asked for. What is read is exactly what
`noria.primitives.rlp.encode` writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, final

from noria.primitives.rlp import integer_to_bytes

__all__ = [
    "FieldOutOfRange",
    "FieldTooLong",
    "InvalidMessage",
    "MessageTooLong",
    "NotCanonical",
    "Reader",
    "TooManyItems",
    "WrongShape",
    "integer_to_bytes",
]

_SHORT: Final = 56
"""Lengths from here on have bytes of their own."""


class InvalidMessage(ValueError):
    """Bytes that are not the message they should be; base of the errors below."""


class MessageTooLong(InvalidMessage):
    """More bytes than any message of this kind has."""


class NotCanonical(InvalidMessage):
    """Bytes that are not RLP, or not the one RLP of what they say."""


class WrongShape(InvalidMessage):
    """A field that is missing, one too many, or a list in the place of bytes and the other way round."""


class FieldTooLong(InvalidMessage):
    """A field of another length than it has, or longer than it may be."""


class FieldOutOfRange(InvalidMessage):
    """A number, bit or choice that the field cannot hold."""


class TooManyItems(InvalidMessage):
    """A list with more items than it may have."""


@final
class Reader:
    """The fields of one RLP list, taken one after the other.

    Parameters
    ----------
    data
        Bytes from anywhere.
    what
        Name of the message, for errors.
    start, end
        The list's contents within `data`.

    Examples
    --------
    >>> reader = Reader.open(bytes.fromhex("c3820400"), "pair", max_bytes=10)
    >>> reader.integer("first", 64)
    1024
    >>> reader.close()
    >>> Reader.open(bytes.fromhex("c3820400"), "pair", max_bytes=2)
    Traceback (most recent call last):
    noria.consensus.wire.MessageTooLong: pair: 4 bytes, at most 2 are read
    """

    __slots__ = ("_at", "_data", "_end", "what")

    def __init__(self, data: bytes, what: str, start: int, end: int) -> None:
        self._data, self.what, self._at, self._end = data, what, start, end

    @classmethod
    def open(cls, data: bytes, what: str, *, max_bytes: int) -> Reader:
        """Begin to read a message that is one list and nothing after it.

        Raises
        ------
        InvalidMessage
            Where it is longer than `max_bytes` or no such list.
        """
        if len(data) > max_bytes:
            raise MessageTooLong(f"{what}: {len(data)} bytes, at most {max_bytes} are read")
        outer = cls(data, what, 0, len(data))
        inner = outer.list(what)
        outer.close()
        return inner

    @property
    def at_end(self) -> bool:
        """Whether every field has been taken."""
        return self._at == self._end

    def close(self) -> None:
        """Insist that nothing is left.

        Raises
        ------
        WrongShape
            Where something is.
        """
        if self._at != self._end:
            raise WrongShape(f"{self.what}: {self._end - self._at} bytes are left after the last field")

    def blob(self, field: str, *, max_bytes: int, min_bytes: int = 0) -> bytes:
        """Take a field of bytes.

        Raises
        ------
        InvalidMessage
            Where the next field is none, or shorter or longer than it may be.
        """
        is_list, start, end = self._next(field)
        if is_list:
            raise WrongShape(f"{self.what}: {field} is a list where bytes were expected")
        if not min_bytes <= end - start <= max_bytes:
            allowed = f"{min_bytes}" if min_bytes == max_bytes else f"{min_bytes} to {max_bytes}"
            raise FieldTooLong(f"{self.what}: {field} has {end - start} bytes, {allowed} are allowed")
        return self._data[start:end]

    def fixed(self, field: str, size: int) -> bytes:
        """Take a field of exactly `size` bytes; raise as `blob` does."""
        return self.blob(field, min_bytes=size, max_bytes=size)

    def integer(self, field: str, bits: int, *, least: int = 0) -> int:
        """Take an integer of at most `bits` bits.

        Raises
        ------
        InvalidMessage
            Where the next field is none, has leading zeros, or is too wide or below `least`.
        """
        data = self.blob(field, max_bytes=(bits + 7) // 8)
        if data[:1] == b"\x00":
            raise NotCanonical(f"{self.what}: {field} has leading zeros")
        value = int.from_bytes(data, "big")
        if value >> bits or value < least:
            raise FieldOutOfRange(f"{self.what}: {field} is {value}, not {least} to 2^{bits} - 1")
        return value

    def list(self, field: str) -> Reader:
        """Take a field that is a list, to be read with the reader that comes back.

        Raises
        ------
        InvalidMessage
            Where the next field is none.
        """
        is_list, start, end = self._next(field)
        if not is_list:
            raise WrongShape(f"{self.what}: {field} is bytes where a list was expected")
        return Reader(self._data, field, start, end)

    def lists(self, field: str, *, max_items: int) -> Iterator[Reader]:
        """Take a field that is a list of lists, and read them one by one.

        Raises
        ------
        InvalidMessage
            Where the next field is none, or holds more than `max_items`.
        """
        outer, count = self.list(field), 0
        while not outer.at_end:
            if count == max_items:
                raise TooManyItems(f"{self.what}: more than {max_items} {field}")
            inner = outer.list(f"{field}[{count}]")
            yield inner
            inner.close()
            count += 1

    def raw(self, field: str, *, max_bytes: int) -> bytes:
        """Take a field of either kind as it is encoded; the contents of a list are not looked at.

        Raises
        ------
        InvalidMessage
            Where it is longer than `max_bytes`.
        """
        begin = self._at
        _, _, end = self._next(field)
        if end - begin > max_bytes:
            raise FieldTooLong(
                f"{self.what}: {field} has {end - begin} bytes, at most {max_bytes} are allowed"
            )
        return self._data[begin:end]

    def _next(self, field: str) -> tuple[bool, int, int]:
        """Step over the next item; return whether it is a list, and where its contents begin and end."""
        data, at, limit = self._data, self._at, self._end
        if at >= limit:
            raise WrongShape(f"{self.what}: {field} is missing")
        first = data[at]
        if first < 0x80:
            self._at = at + 1
            return False, at, at + 1
        is_list = first >= 0xC0
        size, start = first - (0xC0 if is_list else 0x80), at + 1
        if size >= _SHORT:
            width = size - _SHORT + 1
            start = at + 1 + width
            digits = data[at + 1 : min(start, limit)]
            size = int.from_bytes(digits, "big")
            if len(digits) < width or digits[0] == 0 or size < _SHORT:
                raise NotCanonical(f"{self.what}: the length of {field} is not canonical RLP")
        end = start + size
        if end > limit:
            raise NotCanonical(f"{self.what}: {field} reaches past the end of what holds it")
        if not is_list and size == 1 and data[start] < 0x80:
            raise NotCanonical(f"{self.what}: {field} is a small byte with a length")
        self._at = end
        return is_list, start, end
