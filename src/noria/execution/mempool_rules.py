"""What the mempool accepts: its limits, and the checks of one transaction on its own."""

from __future__ import annotations

import msgspec

from noria._core import Transaction
from noria.execution.intrinsic import check_intrinsic_gas
from noria.execution.rejections import RejectedTransaction
from noria.execution.sender_queue import Entry

_NONCE_MAX = 2**64 - 2
"""EIP-2681: an account's nonce stays below 2^64 - 1."""


class MempoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a mempool accepts.

    Attributes
    ----------
    chain_id
        The only chain id accepted; transactions without one (before EIP-155) are accepted too.
    block_gas_limit
        Gas limit of a block.
    transaction_gas_cap
        Gas limit of one transaction (EIP-7825), ``None`` before Osaka.
    calldata_floor
        Whether the calldata floor of EIP-7623 applies (Prague and later).
    transaction_bytes
        Encoded size of one transaction.
    min_tip
        Least tip cap in wei per gas.
    replacement_percent
        By how much a replacement must exceed both the fee cap and the tip cap of what it replaces.
    account_slots, account_gapped
        Transactions of one sender: all, and those behind a gap.
    count, size_bytes
        Transactions in the pool and the sum of their encoded sizes.
    gapped
        Transactions behind gaps in the pool.
    gapped_lifetime_seconds
        How long a transaction may wait behind a gap.
    departures
        How many transactions that left without being mined are remembered with their reasons.
    """

    chain_id: int
    block_gas_limit: int = 36_000_000
    transaction_gas_cap: int | None = 2**24
    calldata_floor: bool = True
    transaction_bytes: int = 128 * 1024
    min_tip: int = 0
    replacement_percent: int = 10
    account_slots: int = 64
    account_gapped: int = 64
    count: int = 32_768
    size_bytes: int = 64 * 1024 * 1024
    gapped: int = 4_096
    gapped_lifetime_seconds: float = 3 * 3600.0
    departures: int = 8_192

    @classmethod
    def for_dev(cls, chain_id: int, block_gas_limit: int) -> MempoolLimits:
        """Return the limits of a development chain, where a few accounts send everything."""
        return cls(
            chain_id=chain_id, block_gas_limit=block_gas_limit, account_slots=1_024, account_gapped=1_024
        )


def checked_entry(
    limits: MempoolLimits, transaction: Transaction, tx_hash: bytes, *, sequence: int, now: float
) -> Entry:
    """Make the entry of a transaction after the checks that need neither the account nor the pool.

    Raises
    ------
    RejectedTransaction
        ``"oversized"``, ``"chain-id"``, ``"tip-above-fee"``, ``"underpriced"``, ``"gas-limit"``,
        ``"nonce-too-high"``, ``"intrinsic-gas"`` or ``"init-code-size"``.
    """
    size = transaction.size
    if size > limits.transaction_bytes:
        raise RejectedTransaction(
            "oversized", f"oversized data: transaction size {size}, limit {limits.transaction_bytes}"
        )
    chain_id = transaction.chain_id
    if chain_id is not None and chain_id != limits.chain_id:
        raise RejectedTransaction(
            "chain-id", f"invalid chain id for signer: have {chain_id} want {limits.chain_id}"
        )
    fee_cap = transaction.max_fee_per_gas
    tip_cap = transaction.max_priority_fee_per_gas
    if tip_cap > fee_cap:
        raise RejectedTransaction(
            "tip-above-fee",
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas: {tip_cap}, maxFeePerGas: {fee_cap}",
        )
    if tip_cap < limits.min_tip:
        raise RejectedTransaction(
            "underpriced",
            f"transaction underpriced: gas tip cap {tip_cap}, minimum needed {limits.min_tip}",
        )
    gas_limit = transaction.gas_limit
    if gas_limit > limits.block_gas_limit:
        raise RejectedTransaction(
            "gas-limit",
            f"exceeds block gas limit: transaction gas {gas_limit}, block gas limit {limits.block_gas_limit}",
        )
    cap = limits.transaction_gas_cap
    if cap is not None and gas_limit > cap:
        raise RejectedTransaction(
            "gas-limit", f"transaction gas limit too high (cap: {cap}, tx: {gas_limit})"
        )
    nonce = transaction.nonce
    if nonce > _NONCE_MAX:
        raise RejectedTransaction("nonce-too-high", f"nonce has max value: tx nonce {nonce}")
    check_intrinsic_gas(transaction, gas_limit=gas_limit, size=size, floor=limits.calldata_floor)
    return Entry(
        transaction,
        tx_hash,
        nonce,
        fee_cap,
        tip_cap,
        transaction.max_cost,
        size,
        sequence,
        now,
        fee_cap,
        tip_cap,
    )


def check_replacement(limits: MempoolLimits, old: Entry, new: Entry) -> None:
    """Check that ``new`` pays enough more than ``old``; raise ``"replacement-underpriced"``."""
    percent = 100 + limits.replacement_percent
    fee_needed = max(old.fee_cap * percent // 100, old.fee_cap + 1)
    tip_needed = max(old.tip_cap * percent // 100, old.tip_cap + 1)
    if new.fee_cap < fee_needed or new.tip_cap < tip_needed:
        raise RejectedTransaction(
            "replacement-underpriced",
            f"replacement transaction underpriced: needs maxFeePerGas {fee_needed} and "
            f"maxPriorityFeePerGas {tip_needed}, has {new.fee_cap} and {new.tip_cap}",
        )


def insufficient_funds(balance: int, queued: int, cost: int) -> RejectedTransaction:
    """Return the rejection of a transaction that its sender cannot pay beside those already queued (wei)."""
    queued_part = f"queued cost {queued}, " if queued else ""
    return RejectedTransaction(
        "insufficient-funds",
        f"insufficient funds for gas * price + value: balance {balance}, {queued_part}tx cost {cost}, "
        f"overshot {queued + cost - balance}",
    )
