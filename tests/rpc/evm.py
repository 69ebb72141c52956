"""Small contracts written by hand, and transactions of the funded accounts."""

from __future__ import annotations

from typing import Any, Final

from eth_account import Account

from noria.execution.accounts import DevAccount
from noria.execution.spec import DEV_CHAIN_ID

LOGGER: Final = bytes.fromhex("6020355f525f3560205fa100")
"""Emits a log: the first word of the input is its topic, the second its data."""
REVERTER: Final = bytes.fromhex("365f5f37365ffd")
"""Reverts with its input."""
SPINNER: Final = bytes.fromhex("5b5f56")
"""Never ends by itself."""
ECHO: Final = bytes.fromhex("365f5f37365ff3")
"""Returns its input."""
KEEPER: Final = bytes.fromhex("5f355f55")
"""Stores the first word of its input in slot 0."""


def init_code(runtime: bytes) -> bytes:
    """Code that deploys ``runtime``."""
    return bytes([0x60, len(runtime), 0x80, 0x60, 0x09, 0x5F, 0x39, 0x5F, 0xF3]) + runtime


def word(value: int) -> bytes:
    """32 bytes, big-endian."""
    return value.to_bytes(32, "big")


def signed(account: DevAccount, nonce: int, **fields: Any) -> bytes:
    """Network encoding of an EIP-1559 transaction."""
    complete = {
        "type": 2,
        "chainId": DEV_CHAIN_ID,
        "nonce": nonce,
        "gas": 200_000,
        "maxFeePerGas": 10**10,
        "maxPriorityFeePerGas": 10**9,
        "value": 0,
        "to": account.address,
        "data": b"",
    } | fields
    return bytes(Account.sign_transaction(complete, account.private_key).raw_transaction)
