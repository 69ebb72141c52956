"""Signed transactions, quickly made: the engine's own signing, no client library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria._core import keccak256, rlp_encode, sign_digest
from noria.execution.accounts import DevAccount

CHAIN_ID: Final = 5_132_114
GWEI: Final = 10**9
SINK: Final = b"\x51" * 20


def transfer(
    account: DevAccount,
    nonce: int,
    *,
    to: bytes = SINK,
    value: int = 1,
    gas: int = 21_000,
    fee: int = 100 * GWEI,
    tip: int = GWEI,
    data: bytes = b"",
    chain_id: int = CHAIN_ID,
) -> bytes:
    """Network encoding of a signed EIP-1559 transaction; ``to=b""`` creates a contract."""
    fields = [
        *(_integer(value) for value in (chain_id, nonce, tip, fee, gas)),
        to,
        _integer(value),
        data,
        [],
    ]
    return _signed(b"\x02", fields, account)


def authorization_transaction(
    account: DevAccount,
    nonce: int,
    authority: DevAccount,
    authority_nonce: int,
    gas: int = 100_000,
    *,
    target: bytes = SINK,
) -> bytes:
    """An EIP-7702 transaction of ``account``; ``authority`` delegates in it, which takes a nonce of its."""
    grant = [_integer(CHAIN_ID), target, _integer(authority_nonce)]
    signature = sign_digest(authority.private_key, keccak256(b"\x05" + rlp_encode(grant)))
    fields = [
        *(_integer(value) for value in (CHAIN_ID, nonce, GWEI, 100 * GWEI, gas)),
        SINK,
        b"",
        b"",
        [],
        [[*grant, *_signature(signature)]],
    ]
    return _signed(b"\x04", fields, account)


def tx_hash(raw: bytes) -> bytes:
    return keccak256(raw)


def _signed(kind: bytes, fields: Sequence[object], account: DevAccount) -> bytes:
    signature = sign_digest(account.private_key, keccak256(kind + rlp_encode(fields)))
    return kind + rlp_encode([*fields, *_signature(signature)])


def _signature(signature: bytes) -> list[bytes]:
    return [_integer(signature[64]), signature[:32].lstrip(b"\0"), signature[32:64].lstrip(b"\0")]


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
