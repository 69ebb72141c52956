"""Signed transactions and blocks for tests of the engine."""

from collections.abc import Sequence
from typing import Any

from eth_account import Account

from noria._core import (
    BlockAttributes,
    Engine,
    ExecutedBlock,
    Header,
    Transaction,
    blake3,
    decode_transaction,
)
from noria.execution.accounts import DevAccount
from noria.execution.system_contracts import CONSENSUS, begin_block_calldata

GWEI = 10**9
FEE_RECIPIENT = bytes.fromhex("fee0000000000000000000000000000000000000")


def sign(account: DevAccount, nonce: int, **fields: Any) -> Transaction:
    """An EIP-1559 transaction of ``account``; every field can be given."""
    values: dict[str, Any] = {
        "chainId": 5132114,
        "nonce": nonce,
        "gas": 21_000,
        "maxFeePerGas": 10 * GWEI,
        "maxPriorityFeePerGas": GWEI,
        "value": 0,
        "data": b"",
        **fields,
    }
    if "gasPrice" in values:
        del values["maxFeePerGas"], values["maxPriorityFeePerGas"]
    values = {name: value for name, value in values.items() if value is not None}
    return decode_transaction(bytes(Account.sign_transaction(values, account.private_key).raw_transaction))


def attributes(parent: Header, **fields: Any) -> BlockAttributes:
    """What a proposer would decide after ``parent``."""
    values: dict[str, Any] = {
        "timestamp": parent.timestamp + 2,
        "fee_recipient": FEE_RECIPIENT,
        "prev_randao": blake3(parent.hash),
        "parent_beacon_block_root": blake3(parent.parent_hash),
        "gas_limit": parent.gas_limit,
        **fields,
    }
    values.setdefault("system_calls", system_calls(values["prev_randao"]))
    return BlockAttributes(**values)


def system_calls(prev_randao: bytes) -> list[tuple[bytes, bytes]]:
    """The calls that the chain makes at block start."""
    return [(CONSENSUS, begin_block_calldata(prev_randao))]


def extend(engine: Engine, transactions: Sequence[Transaction] = (), **fields: Any) -> ExecutedBlock:
    """Build on the head, store, and make it head."""
    head = engine.head
    block = engine.build(head.hash, attributes(head, **fields), transactions)
    engine.commit(block, make_head=True)
    return block
