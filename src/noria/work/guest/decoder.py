"""Bytes to values: the reading half of the codec.

Takes bytes from strangers. Time and memory are bounded by the length of the input and by the limits of
`encoder`; only the canonical encoding of a value is accepted; no class is made but those that the caller
names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NoReturn

from . import extensions
from .encoder import (
    MAX_BYTES,
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_INTEGER_BYTES,
    MAX_VALUES,
    PACKED_SIZES,
    VERSION,
    packed_kind,
)
from .kinds import is_enumeration, is_ordinary


class MalformedValue(ValueError):
    """Bytes are not the encoding of a value; the message says at which byte and why."""


def _no_class(name: str) -> type | None:
    return None


def _no_object(number: int) -> object:
    raise LookupError(number)


class Decoder:
    """Reads one value.

    Parameters
    ----------
    data
        The encoding, all of it.
    class_of
        Gives the class that an instance or member names, or `None` if there is none of that name.
    referred
        Gives the object behind a reference, or raises `LookupError`.
    """

    def __init__(
        self,
        data: bytes,
        class_of: Callable[[str], type | None] = _no_class,
        referred: Callable[[int], object] = _no_object,
    ) -> None:
        self.data = data
        self.class_of = class_of
        self.referred = referred
        self.position = 0
        self.depth = 0
        self.containers = 0
        self.values = 0

    def decode(self) -> Any:
        """Decode the whole input."""
        if self.data[:1] != bytes((VERSION,)):
            self.fail(f"version {VERSION} expected")
        self.position = 1
        value = self.read()
        if self.position != len(self.data):
            self.fail("bytes follow the value")
        return value

    def fail(self, reason: str) -> NoReturn:
        """Refuse the input."""
        raise MalformedValue(f"malformed value at byte {self.position}: {reason}")

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        start = self.position
        end = start + size
        if end > len(self.data):
            self.fail(f"{size} bytes expected, {len(self.data) - start} are left")
        self.position = end
        return self.data[start:end]

    def varint(self) -> int:
        """Read an unsigned number below 2^63."""
        data, position = self.data, self.position
        if position < len(data) and data[position] < 128:
            self.position = position + 1
            return data[position]
        number = shift = 0
        while True:
            if position >= len(data):
                self.fail("the input ends within a number")
            byte = data[position]
            position += 1
            number |= (byte & 127) << shift
            if byte < 128:
                if shift and not byte:
                    self.fail("a number with a leading zero")
                self.position = position
                return number
            shift += 7
            if shift > 56:
                self.fail("a number of more than 63 bits")

    def text(self) -> str:
        """Read length and text."""
        data = self.take(self.varint())
        try:
            return data.decode()
        except UnicodeDecodeError:
            return self.unusual_text(data)

    def unusual_text(self, data: bytes) -> str:
        """Decode text that may hold lone surrogates."""
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            self.fail("text that is not UTF-8")

    def count(self, size: int = 1) -> int:
        """Open a container: read how many values of at least `size` bytes it holds."""
        number = self.varint()
        if number * size > len(self.data) - self.position:
            self.fail(f"{number} values cannot lie in {len(self.data) - self.position} bytes")
        self.depth += 1
        self.containers += 1
        self.values += number
        if self.depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels")
        if self.containers > MAX_CONTAINERS:
            self.fail(f"more than {MAX_CONTAINERS} containers")
        if self.values > MAX_VALUES:
            self.fail(f"more than {MAX_VALUES} values")
        return number

    def read(self) -> Any:
        """Read the value at the current position."""
        position = self.position
        reader = READERS.get(self.data[position]) if position < len(self.data) else None
        if reader is None:
            self.no_value()
        self.position = position + 1
        return reader(self)

    def no_value(self) -> NoReturn:
        """Refuse what stands where a value should begin."""
        if self.position >= len(self.data):
            self.fail("the input ends where a value should begin")
        self.fail(f"no value begins with byte {self.data[self.position]:#04x}")

    def integer(self) -> int:
        """Read an integer."""
        size = self.varint()
        if size > MAX_INTEGER_BYTES:
            self.fail(f"an integer of more than {MAX_INTEGER_BYTES} bytes")
        value = int.from_bytes(self.take(size), "little", signed=True)
        if value.bit_length() // 8 + 1 != size:
            self.fail("an integer with needless bytes")
        return value

    def double(self) -> float:
        """Read a float, bit by bit."""
        return struct.unpack("<d", self.take(8))[0]  # type: ignore[no-any-return]

    def complex_number(self) -> complex:
        """Read a complex number."""
        return complex(*struct.unpack("<dd", self.take(16)))

    def byte_string(self) -> bytes:
        """Read bytes."""
        return bytes(self.take(self.varint()))

    def byte_array(self) -> bytearray:
        """Read a byte array."""
        return bytearray(self.take(self.varint()))

    def items(self, number: int) -> list[Any]:
        """Read the values of a container and close it."""
        # `read` written out: deep values must not take more of the interpreter's stack than they need.
        data, size = self.data, len(self.data)
        values: list[Any] = []
        for _ in range(number):
            position = self.position
            reader = READERS.get(data[position]) if position < size else None
            if reader is None:
                self.no_value()
            self.position = position + 1
            values.append(reader(self))
        self.depth -= 1
        return values

    def plain_list(self) -> list[Any]:
        """Read a list, value by value."""
        values = self.items(self.count())
        if packed_kind(values):
            self.fail("a sequence of numbers that is not packed")
        return values

    def plain_tuple(self) -> tuple[Any, ...]:
        """Read a tuple, value by value."""
        values = self.items(self.count())
        if packed_kind(values):
            self.fail("a sequence of numbers that is not packed")
        return tuple(values)

    def packed(self) -> list[Any] | tuple[Any, ...]:
        """Read a list or tuple of numbers of one width."""
        tag, kind = self.take(1), self.take(1)
        size = PACKED_SIZES.get(kind)
        if tag not in (b"l", b"t") or size is None:
            self.fail("a packed sequence of an unknown kind")
        number = self.count(size)
        values = struct.unpack(f"<{number}{kind.decode()}", self.take(number * size))
        self.depth -= 1
        if packed_kind(values) != kind:
            self.fail("a sequence of numbers that is not packed as narrowly as it can be")
        return list(values) if tag == b"l" else values

    def dictionary(self) -> dict[Any, Any]:
        """Read a dictionary in its order."""
        number = self.count(2)
        read = self.read
        keys: list[Any] = []
        values: list[Any] = []
        for _ in range(number):
            keys.append(read())
            values.append(read())
        self.depth -= 1
        self.spread(keys)
        result = dict(zip(keys, values, strict=True))
        if len(result) != number:
            self.fail("a dictionary that names a key twice")
        return result

    def unordered(self) -> set[Any]:
        """Read a set."""
        values: list[Any] = []
        last = b""
        for _ in range(self.count()):
            start = self.position
            values.append(self.read())
            encoded = self.data[start : self.position]
            if encoded <= last:
                self.fail("a set whose elements are not in ascending order")
            last = encoded
        self.depth -= 1
        self.spread(values)
        result = set(values)
        if len(result) != len(values):
            self.fail("a set that names an element twice")
        return result

    def frozen(self) -> frozenset[Any]:
        """Read a frozen set."""
        return frozenset(self.unordered())

    def spread(self, keys: list[Any]) -> None:
        """Refuse keys made to collide, with which a table would take quadratic time to fill."""
        try:
            hashes = set(map(hash, keys))
        except Exception:
            self.fail("a key that has no hash")
        if len(keys) - len(hashes) > 64 + len(keys) // 16:
            self.fail("keys whose hashes collide")

    def extension(self) -> object:
        """Read a value of a type of the standard library."""
        name = self.text()
        parts = tuple(self.items(self.count()))
        try:
            return extensions.make(name, parts)
        except Exception as error:
            self.fail(str(error)[:200] or type(error).__name__)

    def named_class(self) -> Any:
        """Read the name of a class that the caller knows."""
        name = self.text()
        kind = self.class_of(name)
        if kind is None:
            self.fail(f"no class {name[:80]!r} travels with this function")
        return kind

    def member(self) -> Any:
        """Read a member of an enumeration."""
        kind = self.named_class()
        if not is_enumeration(kind):
            self.fail(f"{kind.__qualname__} is not an enumeration")
        key = self.read()
        if type(key) is str:
            member = kind.__members__.get(key)
            if member is None or member.name != key:
                self.fail(f"{kind.__qualname__} has no member {key[:80]!r}")
            return member
        try:
            combined = kind(key)
        except Exception:
            combined = None
        if (
            type(key) is not int
            or type(combined) is not kind
            or type(combined.value) is not int
            or combined.value != key
            or kind.__members__.get(combined.name) is combined
        ):
            self.fail(f"no combination of flags of {kind.__qualname__}")
        return combined

    def instance(self) -> Any:
        """Read an instance of a dataclass or named tuple."""
        kind = self.named_class()
        values = self.items(self.count())
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            names = kind._fields
        elif hasattr(kind, "__dataclass_fields__") and kind.__new__ is object.__new__:
            fields = kind.__dataclass_fields__.items()
            names = tuple(name for name, field in fields if field._field_type.name == "_FIELD")
        else:
            self.fail(f"{kind.__qualname__} is neither a dataclass nor a named tuple")
        if len(names) != len(values):
            self.fail(f"{kind.__qualname__} has {len(names)} fields, not {len(values)}")
        if issubclass(kind, tuple):
            return tuple.__new__(kind, values)
        made = object.__new__(kind)
        # Neither __init__ nor a frozen class's __setattr__ may interfere: the fields are as they were.
        for name, value in zip(names, values, strict=True):
            object.__setattr__(made, name, value)
        return made

    def ordinary(self) -> Any:
        """Read an instance of an ordinary class."""
        kind = self.named_class()
        if is_enumeration(kind) or hasattr(kind, "__dataclass_fields__") or not is_ordinary(kind):
            self.fail(f"{kind.__qualname__} is not an ordinary class")
        attributes: dict[str, Any] = {}
        number = self.count(2)
        for _ in range(number):
            name = self.text()
            attributes[name] = self.read()
        self.depth -= 1
        if len(attributes) != number:
            self.fail("an instance that names an attribute twice")
        made = object.__new__(kind)
        vars(made).update(attributes)
        return made

    def reference(self) -> object:
        """Read a reference to an object that travelled as code."""
        number = self.varint()
        try:
            return self.referred(number)
        except LookupError:
            self.fail(f"no object {number}")


READERS: dict[int, Callable[[Decoder], Any]] = {
    ord("N"): lambda decoder: None,
    ord("T"): lambda decoder: True,
    ord("F"): lambda decoder: False,
    ord("i"): Decoder.integer,
    ord("d"): Decoder.double,
    ord("c"): Decoder.complex_number,
    ord("s"): Decoder.text,
    ord("b"): Decoder.byte_string,
    ord("y"): Decoder.byte_array,
    ord("l"): Decoder.plain_list,
    ord("t"): Decoder.plain_tuple,
    ord("P"): Decoder.packed,
    ord("m"): Decoder.dictionary,
    ord("S"): Decoder.unordered,
    ord("Z"): Decoder.frozen,
    ord("x"): Decoder.extension,
    ord("e"): Decoder.member,
    ord("o"): Decoder.instance,
    ord("O"): Decoder.ordinary,
    ord("R"): Decoder.reference,
}


def decode(
    data: bytes,
    *,
    class_of: Callable[[str], type | None] = _no_class,
    referred: Callable[[int], object] = _no_object,
    limit: int = MAX_BYTES,
) -> Any:
    """Decode the one value that `data` encodes; see `Decoder`.

    Raises
    ------
    MalformedValue
        If `data` is longer than `limit` or not the encoding of a value.
    """
    if len(data) > limit:
        raise MalformedValue(f"malformed value: {len(data)} bytes, at most {limit} are allowed")
    decoder = Decoder(data, class_of, referred)
    try:
        return decoder.decode()
    except RecursionError:
        raise MalformedValue("malformed value: nested too deeply for what is left of the stack") from None
