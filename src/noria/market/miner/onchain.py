"""The market's contracts as one miner uses them: `noria.market.miner.terms.MarketChain` over any access."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from noria.market.access import ChainAccess, TransactionResult
from noria.market.contracts import (
    ASSIGNED_TOPIC,
    JOB_MARKET,
    SETTLEMENT,
    Assigned,
    Job,
    Place,
    SettledBatch,
    address_topic,
    approve_call,
    commit_approved_call,
    commit_call,
    credit_call,
    decode_event,
    finalize_call,
    read_batch,
    read_job,
    read_miner_terms,
    read_place,
)
from noria.market.miner.terms import HeldAllow
from noria.market.sending import TransactionOverdue, TransactionReverted, TransactionSender
from noria.primitives.types import Hash32, Signature
from noria.work.batches import BatchCommitment

NO_SIGNATURE: Final = b""


class OnChain:
    """The contracts at a node's head.

    Parameters
    ----------
    access
        The chain.
    sender
        Sends from the miner's account.
    """

    def __init__(self, access: ChainAccess, sender: TransactionSender) -> None:
        self._access, self._sender, self._miner = access, sender, sender.address

    async def job(self, job: int) -> Job | None:
        """Return a job."""
        return await read_job(self._access, job)

    async def place(self, job: int, k: int) -> Place | None:
        """Return a place."""
        return await read_place(self._access, job, k)

    async def batch(self, root: Hash32) -> SettledBatch | None:
        """Return a batch that this miner has committed."""
        return await read_batch(self._access, self._miner, root)

    async def assigned(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return (job, k) of this miner's places that were assigned in these blocks."""
        topics: list[list[Hash32] | None] = [[ASSIGNED_TOPIC], None, [address_topic(self._miner)]]
        events = map(decode_event, await self._access.logs([JOB_MARKET], topics, first, last))
        return [(event.job, event.k) for event in events if isinstance(event, Assigned)]

    async def ask_price(self) -> int | None:
        """Return what this miner asks, wei per fuel; None where it is not registered."""
        terms = await read_miner_terms(self._access, self._miner)
        return None if terms is None else terms.ask_price

    async def gas_price(self) -> int:
        """Return what a transaction pays per gas now, wei."""
        return (await self._access.head()).base_fee + await self._access.tip()

    async def commit(
        self, batch: BatchCommitment, allow: HeldAllow | None, approval: Signature | None
    ) -> TransactionResult | None:
        """Commit a batch, with its approval if there is one, else with the allow."""
        job, k = batch.job, batch.k
        if approval is not None:
            return await self._send(commit_approved_call(job, k, batch, approval))
        total, signature = (allow.total, allow.signature) if allow else (0, NO_SIGNATURE)
        return await self._send(commit_call(job, k, batch, total, signature))

    async def approve(
        self, job: int, k: int, batches: Sequence[tuple[Hash32, Signature]]
    ) -> TransactionResult | None:
        """Have committed batches paid that were approved later."""
        roots, approvals = [root for root, _ in batches], [approval for _, approval in batches]
        return await self._send(approve_call(job, k, roots, approvals))

    async def finalize(self, job: int, k: int, roots: Sequence[Hash32]) -> TransactionResult | None:
        """Have batches paid whose time is up."""
        return await self._send(finalize_call(job, k, roots))

    async def credit(self, job: int, k: int, roots: Sequence[Hash32]) -> TransactionResult | None:
        """Have paid batches credited."""
        return await self._send(credit_call(job, k, roots))

    async def _send(self, call: bytes) -> TransactionResult | None:
        try:
            return await self._sender.send_call(SETTLEMENT, call)
        except TransactionReverted as error:
            return error.result
        except TransactionOverdue:
            return None
