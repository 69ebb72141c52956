"""Stand-ins for decoded transactions: the pool reads attributes only, and tests need extreme ones."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import cast

from noria._core import Transaction

CHAIN_ID = 5132114
GWEI = 10**9
RICH = 10**30

_serial = count(1)


@dataclass(frozen=True, slots=True)
class FakeTransaction:
    hash: bytes
    sender: bytes
    nonce: int
    type: int
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    value: int
    to: bytes | None
    chain_id: int | None
    raw: bytes
    size: int
    max_cost: int


def account(index: int) -> bytes:
    """Address of the test's account with this number."""
    return index.to_bytes(20, "big")


def transaction(
    sender: int,
    nonce: int,
    *,
    fee: int = 100 * GWEI,
    tip: int = GWEI,
    value: int = 0,
    gas: int = 100_000,
    size: int = 110,
    chain_id: int | None = CHAIN_ID,
) -> Transaction:
    """A transfer with a hash of its own, whoever made the same before."""
    fake = FakeTransaction(
        hash=next(_serial).to_bytes(32, "big"),
        sender=account(sender),
        nonce=nonce,
        type=2,
        gas_limit=gas,
        max_fee_per_gas=fee,
        max_priority_fee_per_gas=tip,
        value=value,
        to=account(0),
        chain_id=chain_id,
        raw=b"",
        size=size,
        max_cost=value + gas * fee,
    )
    return cast(Transaction, fake)
