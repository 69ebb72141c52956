"""Recursive length prefix: Ethereum's encoding of nested byte strings.

Every value has exactly one encoding and nothing else decodes, so two nodes never disagree about a hash.
"""

from __future__ import annotations

from typing import Final, cast

from noria import _core
from noria._core import InvalidEncoding

__all__ = [
    "MAX_DECODE_BYTES",
    "InvalidEncoding",
    "RlpItem",
    "bytes_to_integer",
    "decode",
    "encode",
    "integer_to_bytes",
]

RlpItem = bytes | list["RlpItem"]
"""A byte string, or a list of items."""

MAX_DECODE_BYTES: Final = 1 << 20
"""Longest input that `decode` takes unless told otherwise. An empty list costs its sender one byte and the
reader about 64, so this bounds the memory of one decoding to about 64 MiB."""


def encode(item: RlpItem) -> bytes:
    """Encode nested lists of bytes.

    Parameters
    ----------
    item
        A byte string, or a list of items at most 1024 lists deep.

    Returns
    -------
    bytes

    Raises
    ------
    InvalidEncoding
        Where lists lie deeper than that.

    Examples
    --------
    >>> encode([b"cat", [b"", b"dog"]]).hex()
    'ca83636174c58083646f67'
    """
    return _core.rlp_encode(item)


def decode(data: bytes, *, max_bytes: int = MAX_DECODE_BYTES) -> RlpItem:
    """Decode the one item that `data` encodes.

    Parameters
    ----------
    data
        Bytes from anywhere.
    max_bytes
        Longest input taken.

    Returns
    -------
    bytes or list
        The item whose `encode` is `data` again.

    Raises
    ------
    InvalidEncoding
        Where `data` is not canonical, has something trailing, nests more than 1024 lists, or is too long.

    Examples
    --------
    >>> decode(bytes.fromhex("ca83636174c58083646f67"))
    [b'cat', [b'', b'dog']]
    """
    if len(data) > max_bytes:
        raise InvalidEncoding(f"{len(data)} bytes of RLP; at most {max_bytes} are read here")
    return cast(RlpItem, _core.rlp_decode(data))


def integer_to_bytes(value: int) -> bytes:
    r"""Write an integer as RLP's users do: big-endian without leading zeros, zero as no byte.

    Parameters
    ----------
    value
        Zero or more.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        For a negative integer, which has no such form.

    Examples
    --------
    >>> integer_to_bytes(1024), integer_to_bytes(0)
    (b'\x04\x00', b'')
    """
    if value < 0:
        raise ValueError(f"{value} is negative and has no RLP form")
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def bytes_to_integer(data: bytes, *, max_bytes: int = 32) -> int:
    r"""Read what `integer_to_bytes` has written.

    Parameters
    ----------
    data
        Big-endian bytes.
    max_bytes
        Widest integer taken.

    Returns
    -------
    int

    Raises
    ------
    InvalidEncoding
        Where `data` has leading zeros or is too wide.

    Examples
    --------
    >>> bytes_to_integer(b"\x04\x00")
    1024
    """
    if len(data) > max_bytes:
        raise InvalidEncoding(f"an integer of {len(data)} bytes; at most {max_bytes} are read here")
    if data[:1] == b"\x00":
        raise InvalidEncoding(f"the integer 0x{data.hex()} has leading zeros; zero is the empty string")
    return int.from_bytes(data, "big")
