"""Arguments of the methods: from their JSON to typed values, or to geth's words about what is wrong.

A method's parameter is annotated with one of the ``...Arg`` types below. Each carries a `Codec`: what msgspec
decodes from the wire, how that becomes the value, and the JSON schema that ``rpc_discover`` shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from msgspec import Raw

from noria.rpc.errors import ParamError

Schema = dict[str, Any]

MAX_UINT64: Final = 2**64 - 1
MAX_UINT256: Final = 2**256 - 1
MAX_TOPICS: Final = 4
MAX_FILTER_CHOICES: Final = 1_000
"""Addresses of a log filter, and alternatives of one of its topics."""
MAX_PROOF_SLOTS: Final = 1_024


@dataclass(frozen=True, slots=True)
class Codec:
    """How one kind of argument is read.

    ``wire`` is the type that msgspec decodes, ``convert`` turns that into the value or raises `ParamError`.
    """

    wire: Any
    convert: Callable[[Any], Any] | None
    schema: Schema


# ---------------------------------------------------------------- hex strings


def _digits(text: str) -> str:
    if not text:
        raise ParamError("empty hex string")
    if text[:2] not in ("0x", "0X"):
        raise ParamError("hex string without 0x prefix")
    return text[2:]


def quantity(text: str, limit: int = MAX_UINT64) -> int:
    """Read a quantity: ``0x``, no leading zero digits, at most ``limit``."""
    digits = _digits(text)
    if not digits:
        raise ParamError('hex string "0x"')
    if digits[0] == "0" and len(digits) > 1:
        raise ParamError("hex number with leading zero digits")
    if len(digits) > 64:
        raise ParamError(f"hex number > {limit.bit_length()} bits")
    value = _hex_int(digits)
    if value > limit:
        raise ParamError(f"hex number > {limit.bit_length()} bits")
    return value


def data(text: str) -> bytes:
    """Read bytes of any length: ``0x`` and an even number of digits."""
    digits = _digits(text)
    if len(digits) % 2:
        raise ParamError("hex string of odd length")
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        raise ParamError("invalid hex string") from None
    if 2 * len(value) != len(digits):
        # bytes.fromhex skips spaces.
        raise ParamError("invalid hex string")
    return value


def fixed_data(text: str, size: int, what: str) -> bytes:
    """Read exactly ``size`` bytes; ``what`` names them in the error."""
    if len(text) != 2 + 2 * size and text[:2] in ("0x", "0X") and len(text) % 2 == 0:
        raise ParamError(f"hex string has length {len(text) - 2}, want {2 * size} for {what}")
    return data(text)


def address(text: str) -> bytes:
    """Read a 20-byte address; upper and lower case are not checked."""
    return fixed_data(text, 20, "address")


def hash32(text: str) -> bytes:
    """Read a 32-byte hash."""
    return fixed_data(text, 32, "hash")


def storage_slot(text: str) -> bytes:
    """Read a storage slot of up to 32 bytes and pad it on the left, as geth does."""
    digits = _digits(text)
    if len(digits) > 64:
        raise ParamError(f"storage key too long (want at most 32 bytes): {text[:70]}")
    return data("0x" + digits.rjust(len(digits) + len(digits) % 2, "0")).rjust(32, b"\0")


def hex_or_decimal(value: str | int) -> int:
    """Read a 64-bit count given as JSON number, decimal string or quantity."""
    if isinstance(value, str):
        if value[:2] in ("0x", "0X"):
            value = _hex_int(value[2:]) if 2 < len(value) <= 18 else -1
        else:
            value = int(value) if value.isascii() and value.isdigit() and len(value) <= 20 else -1
    if not 0 <= value <= MAX_UINT64:
        raise ParamError("invalid hex or decimal integer")
    return value


def _hex_int(digits: str) -> int:
    # int() takes "_" and surrounding spaces; isalnum keeps them out.
    if not (digits.isascii() and digits.isalnum()):
        raise ParamError("invalid hex string")
    try:
        return int(digits, 16)
    except ValueError:
        raise ParamError("invalid hex string") from None


# ---------------------------------------------------------------- blocks


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block as a request names it: exactly one of ``tag``, ``number`` and ``hash`` is set."""

    tag: str | None = None
    number: int | None = None
    hash: bytes | None = None
    require_canonical: bool = False


LATEST: Final = BlockRef(tag="latest")
_TAGS: Final = {tag: BlockRef(tag=tag) for tag in ("latest", "earliest", "pending", "safe", "finalized")}


class BlockIdentifier(msgspec.Struct, frozen=True):
    """The EIP-1898 object."""

    blockNumber: str | None = None
    blockHash: str | None = None
    requireCanonical: bool = False


def block_number(text: str) -> BlockRef:
    """Read a block tag or number."""
    known = _TAGS.get(text)
    if known is not None:
        return known
    value = quantity(text)
    if value > MAX_UINT64 >> 1:
        raise ParamError("block number larger than int64")
    return BlockRef(number=value)


def block_ref(value: str | BlockIdentifier) -> BlockRef:
    """Read a block tag, number, hash, or EIP-1898 object."""
    if isinstance(value, str):
        return _TAGS.get(value) or (BlockRef(hash=hash32(value)) if len(value) == 66 else block_number(value))
    if value.blockNumber is not None and value.blockHash is not None:
        raise ParamError("cannot specify both BlockHash and BlockNumber, choose one or the other")
    if value.blockNumber is not None:
        return block_number(value.blockNumber)
    if value.blockHash is not None:
        return BlockRef(hash=hash32(value.blockHash), require_canonical=value.requireCanonical)
    raise ParamError("neither BlockHash nor BlockNumber is given")


# ---------------------------------------------------------------- log filters


class FilterObject(msgspec.Struct, frozen=True):
    """The wire form of a log filter."""

    fromBlock: str | None = None
    toBlock: str | None = None
    blockHash: str | None = None
    address: str | list[str] | None = None
    topics: list[str | list[str | None] | None] | None = None


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs are meant: no addresses means any; ``None`` at a topic's place means any."""

    first: BlockRef | None = None
    last: BlockRef | None = None
    block_hash: bytes | None = None
    addresses: tuple[bytes, ...] = ()
    topics: tuple[tuple[bytes, ...] | None, ...] = ()


def log_filter(value: FilterObject) -> LogFilter:
    """Check a log filter's sizes and read its parts."""
    if value.blockHash is not None and (value.fromBlock is not None or value.toBlock is not None):
        raise ParamError("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
    names = [value.address] if isinstance(value.address, str) else value.address or []
    if len(names) > MAX_FILTER_CHOICES:
        raise ParamError(f"exceed max addresses: {len(names)}, at most {MAX_FILTER_CHOICES}")
    places = value.topics or []
    if len(places) > MAX_TOPICS:
        raise ParamError(f"exceed max topics: {len(places)}, at most {MAX_TOPICS}")
    return LogFilter(
        first=None if value.fromBlock is None else block_number(value.fromBlock),
        last=None if value.toBlock is None else block_number(value.toBlock),
        block_hash=None if value.blockHash is None else hash32(value.blockHash),
        addresses=tuple(address(name) for name in names),
        topics=tuple(_topic_choices(place) for place in places),
    )


def _topic_choices(place: str | list[str | None] | None) -> tuple[bytes, ...] | None:
    if place is None:
        return None
    choices = [place] if isinstance(place, str) else place
    if len(choices) > MAX_FILTER_CHOICES:
        raise ParamError(f"exceed max topics: {len(choices)} alternatives, at most {MAX_FILTER_CHOICES}")
    # As in geth, an empty list or a null among the alternatives matches anything.
    if not choices or None in choices:
        return None
    return tuple(hash32(choice) for choice in choices if choice is not None)


# ---------------------------------------------------------------- objects that the engine reads itself


def json_object(value: Raw) -> bytes | None:
    """Pass a JSON object on as bytes, ``None`` for null; its fields are read by the engine."""
    text = bytes(value)
    if text[:1] == b"{":
        return text
    if text == b"null":
        return None
    raise ParamError(f"expected an object, got {_kind(text)}")


def any_json(value: Raw) -> bytes:
    """Pass any JSON on as bytes."""
    return bytes(value)


def _kind(text: bytes) -> str:
    kinds = {b"[": "an array", b'"': "a string", b"t": "a boolean", b"f": "a boolean", b"n": "null"}
    return kinds.get(text[:1], "a number")


def _slots(values: list[str]) -> list[bytes]:
    if len(values) > MAX_PROOF_SLOTS:
        raise ParamError(f"too many keys: {len(values)}, at most {MAX_PROOF_SLOTS}")
    return [storage_slot(value) for value in values]


def _percentiles(values: list[float]) -> list[float]:
    if len(values) > 100:
        raise ParamError(f"over the query limit 100: {len(values)} reward percentiles")
    for place, value in enumerate(values):
        if not 0 <= value <= 100:
            raise ParamError(f"invalid reward percentile: {value}")
        if place and value <= values[place - 1]:
            raise ParamError(
                f"invalid reward percentile: #{place - 1}:{values[place - 1]} >= #{place}:{value}"
            )
    return values


# ---------------------------------------------------------------- schemas and annotations


def hex_schema(title: str, pattern: str) -> Schema:
    """Return the JSON schema of a hex string."""
    return {"title": title, "type": "string", "pattern": pattern}


QUANTITY: Final = hex_schema("hex encoded unsigned integer", "^0x(0|[1-9a-f][0-9a-f]*)$")
DATA: Final = hex_schema("hex encoded bytes", "^0x([0-9a-f]{2})*$")
ADDRESS: Final = hex_schema("hex encoded address", "^0x[0-9a-fA-F]{40}$")
HASH: Final = hex_schema("32 byte hex value", "^0x[0-9a-f]{64}$")
BOOLEAN: Final[Schema] = {"type": "boolean"}
TEXT: Final[Schema] = {"type": "string"}
_TAG: Final[Schema] = {"title": "Block tag", "type": "string", "enum": list(_TAGS)}
_BLOCK_OBJECT: Final[Schema] = {
    "title": "EIP-1898 block identifier",
    "type": "object",
    "properties": {
        "blockNumber": {"oneOf": [QUANTITY, _TAG]},
        "blockHash": HASH,
        "requireCanonical": BOOLEAN,
    },
}
_COUNT: Final[Schema] = {"oneOf": [QUANTITY, {"type": "integer", "minimum": 0}, TEXT]}


def an_object(title: str) -> Schema:
    """Return the JSON schema of an object described elsewhere."""
    return {"title": title, "type": "object"}


def nullable(schema: Schema) -> Schema:
    """Return the schema of a value that may be null."""
    return {"oneOf": [schema, {"type": "null"}]}


def array_of(schema: Schema) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": schema}


_FILTER: Final[Schema] = {
    "title": "Filter",
    "type": "object",
    "properties": {
        "fromBlock": {"oneOf": [QUANTITY, _TAG]},
        "toBlock": {"oneOf": [QUANTITY, _TAG]},
        "blockHash": HASH,
        "address": {"oneOf": [ADDRESS, array_of(ADDRESS)]},
        "topics": array_of({"oneOf": [HASH, array_of(HASH), {"type": "null"}]}),
    },
}

AddressArg = Annotated[bytes, Codec(str, address, ADDRESS)]
HashArg = Annotated[bytes, Codec(str, hash32, HASH)]
DataArg = Annotated[bytes, Codec(str, data, DATA)]
QuantityArg = Annotated[int, Codec(str, quantity, QUANTITY)]
CountArg = Annotated[int, Codec(str | int, hex_or_decimal, _COUNT)]
SlotArg = Annotated[bytes, Codec(str, storage_slot, hex_schema("storage slot", "^0x[0-9a-f]{1,64}$"))]
SlotsArg = Annotated[list[bytes], Codec(list[str], _slots, array_of(HASH))]
BlockArg = Annotated[
    BlockRef, Codec(str | BlockIdentifier, block_ref, {"oneOf": [QUANTITY, _TAG, HASH, _BLOCK_OBJECT]})
]
BlockNumberArg = Annotated[BlockRef, Codec(str, block_number, {"oneOf": [QUANTITY, _TAG]})]
CallArg = Annotated[bytes | None, Codec(Raw, json_object, an_object("Transaction call object"))]
OverridesArg = Annotated[bytes | None, Codec(Raw, json_object, an_object("Overrides"))]
JsonArg = Annotated[bytes, Codec(Raw, any_json, {})]
FilterArg = Annotated[LogFilter, Codec(FilterObject, log_filter, _FILTER)]
PercentilesArg = Annotated[list[float], Codec(list[float], _percentiles, array_of({"type": "number"}))]
BoolArg = Annotated[bool, Codec(bool, None, BOOLEAN)]
TextArg = Annotated[str, Codec(str, None, TEXT)]
