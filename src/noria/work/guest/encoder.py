"""Values to bytes: the writing half of the codec that arguments, captured data and results share.

Every value has exactly one encoding, independent of process, hash seed and Python version. `decoder` reads it
back; `docs/functions.md` gives the format.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from . import extensions
from .kinds import (
    UnencodableValue,
    dataclass_fields,
    is_enumeration,
    is_ordinary,
    refusal,
    short,
    unique_name,
)

VERSION = 1
"""First byte of every encoding."""

MAX_BYTES = 64 << 20
"""Longest encoding, in bytes: the protocol's `OUTPUT_MAX`."""

MAX_DEPTH = 200
"""Containers within containers."""

MAX_CONTAINERS = 1 << 20
"""Lists, tuples, dictionaries, sets and instances in one value, so that few bytes never become gigabytes."""

MAX_VALUES = 1 << 24
"""Values of every kind in one value."""

MAX_INTEGER_BYTES = 1 << 20
"""Longest integer, in bytes."""

INTEGER_KINDS = ((b"b", -(1 << 7), 1 << 7), (b"h", -(1 << 15), 1 << 15), (b"i", -(1 << 31), 1 << 31))
"""Packed integer kinds that are narrower than 64 bits, with the range that each holds."""

PACKED_SIZES = {b"b": 1, b"h": 2, b"i": 4, b"q": 8, b"d": 8}


def _not_defined(kind: type) -> str:
    raise UnencodableValue(
        f"instances of {kind.__module__}.{kind.__qualname__} need the class to travel with the function",
        "define the class at the top level of a module and use it in the function or its arguments",
    )


def _no_reference(value: object) -> int | None:
    return None


class Encoder:
    """Writes one value.

    Parameters
    ----------
    class_name
        Gives the name under which the other side knows a dataclass, enumeration or named tuple, or raises
        `UnencodableValue`.
    reference
        Gives the number of an object that travels as code (a function, a class), or `None`.
    limit
        Longest encoding, in bytes.
    """

    def __init__(
        self,
        class_name: Callable[[type], str] = _not_defined,
        reference: Callable[[object], int | None] = _no_reference,
        limit: int = MAX_BYTES,
    ) -> None:
        self.class_name = class_name
        self.reference = reference
        self.limit = limit
        self.out = bytearray()
        self.active: list[int] = []
        self.containers = 0
        self.values = 0
        self.naming = False
        """Whether references are written as names, to find an order for the elements of a set."""

    def encode(self, value: object, path: str) -> bytes:
        """Encode `value`; `path` names it in errors."""
        self.out.append(VERSION)
        try:
            self.write(value)
            self.check_size()
        except UnencodableValue as error:
            steps = error.steps[::-1]
            # An error that passes through several encodings has its place from the innermost one.
            error.path = error.path or path + "".join(steps if error.keep is None else steps[: error.keep])
            raise
        except RecursionError:
            raise UnencodableValue(
                "nested too deeply for what is left of the stack", "flatten the value", path
            ) from None
        return bytes(self.out)

    def write(self, value: object) -> None:
        """Append one value."""
        writer = WRITERS.get(type(value))
        if writer is not None:
            writer(self, value)
        else:
            self.other(value)

    def check_size(self) -> None:
        """Refuse what has grown over the limits."""
        if len(self.out) > self.limit:
            raise UnencodableValue(
                f"the encoding is longer than {self.limit} bytes", "split the work into smaller units"
            )
        if self.values > MAX_VALUES:
            raise UnencodableValue(f"more than {MAX_VALUES} values", "split the work into smaller units")

    def varint(self, number: int) -> None:
        """Append an unsigned number in base 128, low digits first."""
        while number > 127:
            self.out.append(number & 127 | 128)
            number >>= 7
        self.out.append(number)

    def text(self, text: str) -> None:
        """Append length and UTF-8 of `text`; lone surrogates are kept."""
        try:
            data = text.encode()
        except UnicodeEncodeError:
            data = text.encode("utf-8", "surrogatepass")
        self.varint(len(data))
        self.out += data

    def enter(self, value: object, count: int) -> None:
        """Open a container of `count` values."""
        self.containers += 1
        self.values += count
        self.active.append(id(value))
        if len(self.active) > MAX_DEPTH:
            self.too_deep()
        if self.containers > MAX_CONTAINERS:
            raise UnencodableValue(
                f"more than {MAX_CONTAINERS} containers",
                "use flat lists of numbers, bytes or text, or split the work into smaller units",
            )
        self.check_size()

    def too_deep(self) -> None:
        """Raise for nesting, with the shortest path if the value contains itself."""
        first: dict[int, int] = {}
        for place, identity in enumerate(self.active):
            if identity in first:
                error = UnencodableValue("the value contains itself", "pass a value without cycles")
                error.keep = place
                raise error
            first[identity] = place
        raise UnencodableValue(f"nested deeper than {MAX_DEPTH} levels", "flatten the value")

    def items(self, values: Iterable[object]) -> None:
        """Append the values of a sequence."""
        index = 0
        try:
            for value in values:
                writer = WRITERS.get(type(value))
                if writer is not None:
                    writer(self, value)
                else:
                    self.other(value)
                index += 1
        except UnencodableValue as error:
            error.steps.append(f"[{index}]")
            raise

    def none(self, value: None) -> None:
        """Append ``None``."""
        self.out += b"N"

    def boolean(self, value: bool) -> None:
        """Append a truth value."""
        self.out += b"T" if value else b"F"

    def integer(self, value: int) -> None:
        """Append an integer."""
        size = value.bit_length() // 8 + 1
        if size > MAX_INTEGER_BYTES:
            raise UnencodableValue(
                f"an integer of {size} bytes; at most {MAX_INTEGER_BYTES} are allowed", "split it"
            )
        self.out += b"i"
        self.varint(size)
        self.out += value.to_bytes(size, "little", signed=True)

    def double(self, value: float) -> None:
        """Append a float, bit by bit."""
        self.out += b"d" + struct.pack("<d", value)

    def complex_number(self, value: complex) -> None:
        """Append a complex number."""
        self.out += b"c" + struct.pack("<dd", value.real, value.imag)

    def string(self, value: str) -> None:
        """Append text."""
        self.out += b"s"
        self.text(value)
        if len(self.out) > self.limit:
            self.check_size()

    def byte_string(self, value: bytes) -> None:
        """Append bytes."""
        self.out += b"b"
        self.varint(len(value))
        self.out += value
        self.check_size()

    def byte_array(self, value: bytearray) -> None:
        """Append a byte array."""
        self.out += b"y"
        self.varint(len(value))
        self.out += value
        self.check_size()

    def sequence(self, value: list[Any] | tuple[Any, ...]) -> None:
        """Append a list or tuple."""
        tag = b"l" if type(value) is list else b"t"
        self.enter(value, len(value))
        kind = packed_kind(value)
        if kind:
            self.out += b"P" + tag + kind
            self.varint(len(value))
            self.out += struct.pack(f"<{len(value)}{kind.decode()}", *value)
        else:
            self.out += tag
            self.varint(len(value))
            self.items(value)
        self.active.pop()

    def dictionary(self, value: dict[Any, Any]) -> None:
        """Append a dictionary in its order."""
        self.enter(value, 2 * len(value))
        self.out += b"m"
        self.varint(len(value))
        key: object = None
        try:
            for key, item in value.items():
                self.write(key)
                self.write(item)
        except UnencodableValue as error:
            error.steps.append(f"[{short(key)}]")
            raise
        self.active.pop()

    def unordered(self, value: set[Any] | frozenset[Any]) -> None:
        """Append a set."""
        self.enter(value, len(value))
        self.out += b"S" if type(value) is set else b"Z"
        self.varint(len(value))
        whole, parts = self.out, []
        for item in value if self.reference is _no_reference else self.ordered(value):
            self.out = bytearray()
            try:
                self.write(item)
            except UnencodableValue as error:
                error.steps.append(f"{{{short(item)}}}")
                raise
            parts.append(bytes(self.out))
        self.out = whole
        parts.sort()
        if len(set(parts)) < len(parts):
            raise UnencodableValue("a set with several NaN", "leave them out")
        self.out += b"".join(parts)
        self.active.pop()

    def ordered(self, value: set[Any] | frozenset[Any]) -> Iterable[Any]:
        """Return elements in an order that does not depend on hashes, for references are numbered as met."""
        if all(type(item) in SCALARS for item in value):
            return value
        return sorted(value, key=self.name_of)

    def name_of(self, value: object) -> bytes:
        """Encode a value with names instead of numbers."""
        encoder = Encoder(limit=self.limit)
        encoder.naming = True
        encoder.write(value)
        return bytes(encoder.out)

    def refer(self, value: object, refused: tuple[str, str]) -> None:
        """Append a reference to an object that travels as code."""
        if self.naming:
            self.out += b"R"
            self.text(unique_name(value))
            return
        number = self.reference(value)
        if number is None:
            raise UnencodableValue(*refused)
        self.out += b"R"
        self.varint(number)

    def named(self, kind: type) -> None:
        """Append the name of a class."""
        self.text(f"{kind.__module__}:{kind.__qualname__}" if self.naming else self.class_name(kind))

    def other(self, value: object) -> None:
        """Append a value whose exact type is not a basic one."""
        kind = type(value)
        known = extensions.find(kind)
        if known is not None:
            name, parts = known
            try:
                taken = parts(value)
            except extensions.Unsupported as error:
                self.refer(value, (str(error), error.remedy))
                return
            self.enter(value, len(taken))
            self.out += b"x"
            self.text(name)
            self.varint(len(taken))
            self.items(taken)
            self.active.pop()
        elif is_enumeration(kind):
            self.member(value)
        elif hasattr(kind, "__dataclass_fields__"):
            self.instance(value, dataclass_fields(value))
        elif isinstance(value, tuple) and hasattr(kind, "_fields"):
            self.instance(value, dict(zip(kind._fields, value, strict=True)))
        elif is_ordinary(kind):
            self.ordinary(value)
        else:
            self.refer(value, refusal(kind))

    def ordinary(self, value: object) -> None:
        """Append an instance of an ordinary class: class, then its attributes."""
        # `typing.Generic` notes on an instance which alias has made it.
        attributes = {name: item for name, item in vars(value).items() if name != "__orig_class__"}
        self.enter(value, 2 * len(attributes))
        self.out += b"O"
        self.named(type(value))
        self.varint(len(attributes))
        for name, item in attributes.items():
            if type(name) is not str:
                raise UnencodableValue(f"attribute {short(name)} is not text", "use text for names")
            self.text(name)
            try:
                self.write(item)
            except UnencodableValue as error:
                error.steps.append(f".{name}")
                raise
        self.active.pop()

    def member(self, value: Any) -> None:
        """Append a member of an enumeration: class and name, or the number of a combination of flags."""
        kind = type(value)
        self.out += b"e"
        self.named(kind)
        if value.name is not None and kind.__members__.get(value.name) is value:
            self.string(value.name)
        else:
            self.integer(value.value)

    def instance(self, value: object, fields: dict[str, object]) -> None:
        """Append an instance of a dataclass or named tuple: class, then the fields in order."""
        self.enter(value, len(fields))
        self.out += b"o"
        self.named(type(value))
        self.varint(len(fields))
        for field, item in fields.items():
            try:
                self.write(item)
            except UnencodableValue as error:
                error.steps.append(f".{field}")
                raise
        self.active.pop()


WRITERS: dict[type, Callable[[Encoder, Any], None]] = {
    type(None): Encoder.none,
    bool: Encoder.boolean,
    int: Encoder.integer,
    float: Encoder.double,
    complex: Encoder.complex_number,
    str: Encoder.string,
    bytes: Encoder.byte_string,
    bytearray: Encoder.byte_array,
    list: Encoder.sequence,
    tuple: Encoder.sequence,
    dict: Encoder.dictionary,
    set: Encoder.unordered,
    frozenset: Encoder.unordered,
}


SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})


def packed_kind(values: list[Any] | tuple[Any, ...]) -> bytes:
    """How a sequence of only floats or only 64-bit integers is packed, or nothing for any other sequence."""
    if not values:
        return b""
    kinds = set(map(type, values))
    if len(kinds) > 1:
        return b""
    if kinds == {float}:
        return b"d"
    if kinds != {int}:
        return b""
    low, high = min(values), max(values)
    for kind, least, bound in INTEGER_KINDS:
        if low >= least and high < bound:
            return kind
    return b"q" if low >= -(1 << 63) and high < 1 << 63 else b""


def is_data(value: object) -> bool:
    """Whether a value is encoded by its contents and not by reference."""
    kind = type(value)
    if kind in WRITERS or is_enumeration(kind) or hasattr(kind, "__dataclass_fields__"):
        return True
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return True
    return extensions.find(kind) is not None or is_ordinary(kind)


def encode(
    value: object,
    *,
    path: str = "value",
    class_name: Callable[[type], str] = _not_defined,
    reference: Callable[[object], int | None] = _no_reference,
    limit: int = MAX_BYTES,
) -> bytes:
    """Encode `value`; see `Encoder`."""
    return Encoder(class_name, reference, limit).encode(value, path)
