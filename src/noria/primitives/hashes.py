"""The two hashes of the protocol: Keccak-256 where Ethereum fixes it, BLAKE3 everywhere else."""

from __future__ import annotations

from typing import Final

from noria import _core
from noria.primitives.types import Hash32


def keccak256(data: bytes) -> Hash32:
    """Hash as Ethereum does (the original padding, not FIPS 202 SHA3-256).

    Parameters
    ----------
    data
        Any number of bytes.

    Returns
    -------
    Hash32

    Examples
    --------
    >>> keccak256(b"").hex()
    'c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470'
    """
    return Hash32(_core.keccak256(data))


def blake3(data: bytes) -> Hash32:
    """Hash with BLAKE3, default output length: the ``H`` of the protocol.

    Parameters
    ----------
    data
        Any number of bytes.

    Returns
    -------
    Hash32

    Examples
    --------
    >>> blake3(b"").hex()
    'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'
    """
    return Hash32(_core.blake3(data))


EMPTY_CODE_HASH: Final = Hash32(
    bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
)
"""`keccak256` of no bytes: the code hash of an account without code."""
EMPTY_TRIE_ROOT: Final = Hash32(
    bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")
)
"""Root of an empty Merkle-Patricia trie, the `keccak256` of the RLP of an empty string."""
